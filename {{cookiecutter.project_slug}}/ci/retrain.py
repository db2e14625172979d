"""Train again and, if the model is better, propose it for production.

``python ci/retrain.py REPORT`` trains as ``train`` does, and opens a change of config/model.toml,
whose description is the report. A model that misses a threshold or does not beat the present one
is not proposed; the report says so. Exit code 2: training or the proposal fails.

MODELS_STORE names a store that the version is copied to; REASON is an alert's text, not trusted.
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
    """The store to copy to; an empty text if releases find the model in the registry itself.

    :raises ProjectError: others would not find the version there, or the change would show the
        store's password.
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
    """Make production's model the champion, which the new model must beat.

    It may be in another store, and the present champion may be a proposal that was never merged.
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
    """Connection string and SHA-256 in config/model.toml of HEAD; None if there is no such file.

    :raises ProjectError: the file is not valid.
    """
    if not origin.git("ls-tree", "HEAD", "--", CHOSEN):
        return None
    return approved(origin.git("show", f"HEAD:{CHOSEN}"))


def outcome(config: Settings, store: str) -> str:
    """Propose the newest version if it is the champion now, and return the report."""
    version = registry.history(config)[0]
    told = gate.markdown(version, config)
    if version.tags["verdict"] != "promoted":
        return f"{told}\nNo change is proposed: production keeps its model.\n"
    uri = f"models:/{PACKAGE}/{version.number}"
    if store:
        # A separate place for each version, so that an approved model is never replaced.
        beside = "#" if databases.is_database(store) and "#" not in store else "/"
        uri = stores.copy(uri, f"{store}{beside}{version.sha256[:12]}", config)
    title = f"Retrained model, version {version.number}"
    body = f"{told}\nMerged, `{uri}` is what the next release brings to production.\n{reason()}"
    address = change.propose(BRANCH, title, body, **{CHOSEN: written(uri, version)})
    return f"{told}\nProposed: {address}\n"


def written(uri: str, version: Version) -> str:
    """The text of config/model.toml."""
    known = {"uri": uri, "sha256": version.sha256, "contract": version.tags["contract"]}
    # TOML reads strings in JSON's notation.
    lines = [f"{name} = {json.dumps(value)}" for name, value in known.items()]
    lines += ["", "[metrics]"]
    lines += [f"{key(name)} = {value!r}" for name, value in sorted(version.metrics.items())]
    return HEAD + "\n".join(lines) + "\n"


def key(name: str) -> str:
    """A key of TOML, in quotes if necessary."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name)


def reason() -> str:
    """The alert's text as a Markdown code block, in which commands, links and mentions do nothing.

    The text may name variables that a workflow replaces by their values; secrets are masked.
    """
    text = os.environ.get("REASON", "")
    for name, value in os.environ.items():
        if len(value) >= 8 and (SECRET.search(name) or hidden(value) != value):
            text = text.replace(value, "***")
    if not text.strip():
        return ""
    lines = text[:LONGEST_REASON].splitlines()
    shown = ["".join(sign if sign.isprintable() else " " for sign in line) for line in lines]
    # Every line is indented, so that the text cannot end the code block.
    # Azure and GitHub run commands that they find in printed text, such as ##vso or ::error.
    harmless = [line.replace("##", "# #").replace("::", ": :") for line in shown]
    code = "".join(f"    {line}\n" for line in harmless)
    return f"\nThe reason that was given, by whoever asked:\n\n{code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
