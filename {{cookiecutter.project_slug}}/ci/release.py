"""A release: an image with its model, named by the image's digest; and the tags of releases.

Tags in the registry of images name the release of an environment (``nonprod``, ``prod``), its
previous one (``nonprod-previous``, …) and the last that passed in NONPROD (``candidate``).
"""

import json
import os
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from container import SECONDS, TRANSFER_SECONDS, is_local, pull, run

from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.tables.json_files import read_json, write_json

NAME = "{{ cookiecutter.project_slug }}"
FILE = "release.json"
REVISION = "org.opencontainers.image.revision"
REPOSITORY = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Runs in the image and prints its contents.
INVENTORY = Path(__file__).with_name("inventory.py")


@dataclass(frozen=True)
class Release:
    """``model`` is the SHA-256 of the artifact, ``revision`` the commit of the code."""

    repository: str
    digest: str
    revision: str
    model: str
    contract: str

    @property
    def image(self) -> str:
        return f"{self.repository}@{self.digest}"

    def __str__(self) -> str:
        return (
            f"{self.image}, revision {self.revision[:12]}, model {self.model[:12]}, "
            f"contract {self.contract}"
        )


def environment() -> str:
    return os.environ.get("ENVIRONMENT") or "nonprod"


def given(environment: str) -> tuple[str, ...]:
    """Options of every container of an environment: its name, its variables, its data."""
    file = Path("config") / f"{environment}.env"
    return (
        *("--env", f"ENVIRONMENT={environment}"),
        *(("--env-file", str(file)) if file.exists() else ()),
        *("--volume", f"{NAME}-{environment}-data:/app/data"),
    )


def read(folder: Path) -> Release:
    """:raises ProjectError: there is no release, or a damaged one."""
    try:
        return checked(Release(**read_json(folder / FILE)))
    except TypeError:  # no file, or other contents
        missing = f"{folder / FILE} is missing or damaged: `make publish` writes it."
        raise ProjectError(missing) from None


def write(folder: Path, release: Release) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, asdict(release))


def checked(release: Release) -> Release:
    """:raises ProjectError: its repository or digest is not valid."""
    named(release.repository)
    if not DIGEST.fullmatch(release.digest):
        raise ProjectError(f"{release.digest!r} is no digest of an image.")
    return release


def named(repository: str) -> str:
    """A repository in lower case, as registries require it.

    :raises ProjectError: it is not a repository of images.
    """
    if not REPOSITORY.fullmatch(repository.lower()):
        raise ProjectError(
            f"REPOSITORY={repository}: name a repository of images, registry first, as in "
            f"ghcr.io/acme/{NAME} or localhost:5000/{NAME}."
        )
    return repository.lower()


def of(engine: str, repository: str, digest: str) -> Release:
    """The release with this digest, as its image describes it."""
    image = f"{repository}@{digest}"
    pull(engine, image)
    found = inventory(engine, image)
    model = found["model"]
    return Release(repository, digest, found["revision"], model["sha256"], model["contract"])


def inventory(engine: str, image: str) -> dict:
    """The contents of an image: revision, model, packages of Python and of Debian.

    :raises ProjectError: it holds no model.
    """
    words = ("run", "--rm", "--interactive", "--network=none", "--entrypoint=python", image, "-")
    found = json.loads(run(engine, *words, given=INVENTORY.read_text("utf-8")))
    if not found["model"]:
        raise ProjectError(f"{image} holds no model: build it with `make image MODEL=…`.")
    found["revision"] = label(engine, image, REVISION)
    return found


def label(engine: str, image: str, name: str) -> str:
    """A label of an image; empty if the label or the image does not exist."""
    try:
        [known] = json.loads(run(engine, "image", "inspect", image))
    except ProjectError:
        return ""
    return (known["Config"].get("Labels") or {}).get(name, "")


def digest_of(repository: str, tag: str) -> str | None:
    """The digest that a tag of the registry names; None if there is no such tag.

    :raises ProjectError: the registry does not answer.
    """
    tls = ("--tls-verify=false",) if is_local(repository) else ()
    try:
        said = run("skopeo", "inspect", "--no-tags", *tls, f"docker://{repository}:{tag}")
    except ProjectError as problem:
        if re.search("manifest unknown|name unknown|not found", str(problem)):
            return None
        raise
    return json.loads(said)["Digest"]


def tag(repository: str, digest: str, name: str) -> None:
    """Set a tag of the registry to a digest; the image itself stays where it is."""
    tls = ("--src-tls-verify=false", "--dest-tls-verify=false") if is_local(repository) else ()
    words = ("copy", "--all", "--preserve-digests", "--quiet", *tls)
    images = (f"docker://{repository}@{digest}", f"docker://{repository}:{name}")
    run("skopeo", *words, *images, seconds=TRANSFER_SECONDS)


def descends(newer: str, older: str) -> bool:
    """Whether a commit comes after another one, is the same, or one of them is unknown to git."""
    words = ("git", "merge-base", "--is-ancestor", older, newer)
    done = subprocess.run(words, capture_output=True, timeout=SECONDS)
    return done.returncode != 1
