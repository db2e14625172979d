"""Trains again and, if the model is better, proposes that production shall have it.

``python ci/retrain.py REPORT`` trains as ``train`` does, and opens a change of config/model.toml,
whose description is the report. Nothing is proposed for a model that misses a threshold or does
not beat the present one; the report says so. 2: it could not be found out.

MODELS_STORE names a store that the version is copied to; REASON is what an alert says, untrusted.
"""

import json
import os
import re
import sys
from pathlib import Path

import change
import forge
import gate
import origin
from chosen import APPROVED, approved

from {{ cookiecutter.__package_name }} import cli, settings
from {{ cookiecutter.__package_name }}.errors import ProjectError, hidden
from {{ cookiecutter.__package_name }}.models import registry, stores
from {{ cookiecutter.__package_name }}.models.artifact import ContractChangedError
from {{ cookiecutter.__package_name }}.models.registry import CHAMPION, Version
from {{ cookiecutter.__package_name }}.settings import PACKAGE, Settings
from {{ cookiecutter.__package_name }}.tables import databases

CHOSEN = str(APPROVED)
BRANCH = "retrain/model"
LONGEST_REASON = 2000
SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
HEAD = """\
# The model that production shall have: `make retrain` proposes it, and who merges approves it.
"""


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python ci/retrain.py REPORT", file=sys.stderr)
        return 2
    report = Path(argv[0]).resolve()
    try:
        forge.token()
        config = settings.load()
        store = lasting_store(config)
        start_from_production(config)
        code = cli.main(["train"])
        if code not in (0, 1):
            return code
        told = outcome(config, store)
    except (ProjectError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(told, "utf-8")
    print(told)
    return 0


def lasting_store(config: Settings) -> str:
    """The store to copy to, or an empty text where the registry itself is one that lasts.

    :raises ProjectError: nobody else would find the version there, or everybody would read its
        password.
    """
    store = os.environ.get("MODELS_STORE", "")
    if databases.has_password(store):
        raise ProjectError(f"MODELS_STORE: {CHOSEN} would show its password; name another store.")
    path = databases.local_path(store) if store else None
    if store.startswith(("models:/", "sqlite:")) or (path and path.is_relative_to(origin.PROJECT)):
        raise ProjectError(f"MODELS_STORE: {store} is found from this folder only; name another.")
    models = config.models
    alone = models.tracking_uri.startswith("sqlite:") or models.artifacts.startswith("project:")
    if alone and not store:
        raise ProjectError(
            "the registry is a folder of this machine, where no release would find the model: set "
            "APP__MODELS__TRACKING_URI and APP__MODELS__ARTIFACTS to one that lasts, or "
            "MODELS_STORE to a store such as s3://bucket/models."
        )
    return store


def start_from_production(config: Settings) -> None:
    """Make the model that production has the champion that is to be beaten.

    It may be elsewhere; and the champion may be a model that was proposed, and never merged.
    """
    uri, sha256 = present() or ("", "")
    if not uri:
        return
    if uri.startswith("models:/"):
        champion = registry.find(CHAMPION, config)
        known = [each for each in registry.history(config) if each.sha256 == sha256]
        if known and not (champion and champion.sha256 == sha256):
            registry.promote(known[0].number, f"production has it, by {CHOSEN}", config)
        return
    try:
        stores.copy(uri, f"models:/{PACKAGE}@{CHAMPION}", config)
    except ContractChangedError:
        print("What production has was trained on another contract: not compared.")


def present() -> tuple[str, str] | None:
    """Connection string and SHA-256 of the model in the revision that is checked out.

    :raises ProjectError: nobody can read them.
    """
    if not origin.git("ls-tree", "HEAD", "--", CHOSEN):
        return None
    return approved(origin.git("show", f"HEAD:{CHOSEN}"))


def outcome(config: Settings, store: str) -> str:
    """The report, after proposing the newest version if it is the champion now."""
    version = registry.history(config)[0]
    told = gate.markdown(version, config)
    if version.tags["verdict"] != "promoted":
        return f"{told}\nNo change is proposed: production keeps its model.\n"
    uri = f"models:/{PACKAGE}/{version.number}"
    if store:
        # A place of its own, so that what is approved stays what it is.
        beside = "#" if databases.is_database(store) and "#" not in store else "/"
        uri = stores.copy(uri, f"{store}{beside}{version.sha256[:12]}", config)
    title = f"Retrained model, version {version.number}"
    body = f"{told}\nMerged, `{uri}` is what the next release brings to production.\n{reason()}"
    address = change.propose(BRANCH, title, body, **{CHOSEN: written(uri, version)})
    return f"{told}\nProposed: {address}\n"


def written(uri: str, version: Version) -> str:
    """config/model.toml."""
    known = {"uri": uri, "sha256": version.sha256, "contract": version.tags["contract"]}
    # What JSON writes, TOML reads.
    lines = [f"{name} = {json.dumps(value)}" for name, value in known.items()]
    lines += ["", "[metrics]"]
    lines += [f"{key(name)} = {value!r}" for name, value in sorted(version.metrics.items())]
    return HEAD + "\n".join(lines) + "\n"


def key(name: str) -> str:
    """A name as TOML has it, in quotes where it must be."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name)


def reason() -> str:
    """Why an alert asked for it, as code: nothing in it is a command or a link to anybody.

    Whoever sends it may name variables that a workflow puts in; secrets are taken out again.
    """
    text = os.environ.get("REASON", "")
    for name, value in os.environ.items():
        if len(value) >= 8 and (SECRET.search(name) or hidden(value) != value):
            text = text.replace(value, "***")
    if not text.strip():
        return ""
    lines = text[:LONGEST_REASON].splitlines()
    shown = ["".join(sign if sign.isprintable() else " " for sign in line) for line in lines]
    # Indented code ends where the indent does, and every line has it.
    # Azure and GitHub look for commands to their agents in whatever is printed.
    harmless = [line.replace("##", "# #").replace("::", ": :") for line in shown]
    code = "".join(f"    {line}\n" for line in harmless)
    return f"\nThe reason that was given, by whoever asked:\n\n{code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
