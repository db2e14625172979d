"""Copy the model for the next release to FOLDER: ``python ci/chosen.py GATE FOLDER``.

A retraining proposes the model in config/model.toml, and a reviewer approves it. Without that file
it is the model of the gate. Exit code 1: it cannot be copied, or is not the approved one.
"""

import shutil
import sys
import tomllib
from pathlib import Path

from program import call

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.models import stores
from {{ cookiecutter.__package_name }}.models.artifact import read_metadata

APPROVED = Path("config/model.toml")


def choose(gate: str, folder: str) -> None:
    """:raises ProjectError: the model cannot be copied, or its digest is not the approved one."""
    shutil.rmtree(folder, ignore_errors=True)
    config = settings.load()
    if not APPROVED.exists():
        stores.copy(str(Path(gate).resolve()), str(Path(folder).resolve()), config)
        print(f"The model of the gate; there is no {APPROVED}.")
        return
    uri, sha256 = approved(APPROVED.read_text("utf-8"))
    stores.copy(uri, str(Path(folder).resolve()), config)
    if (found := read_metadata(Path(folder))["sha256"]) != sha256:
        shutil.rmtree(folder)
        raise ProjectError(f"{uri} is model {found[:12]}, but {sha256[:12]} was approved.")
    print(f"{uri}, as {APPROVED} says.")


def approved(text: str) -> tuple[str, str]:
    """Connection string and SHA-256 of the model, from the text of APPROVED.

    :raises ProjectError: the text is not valid.
    """
    try:
        found = tomllib.loads(text)
        return str(found["uri"]), str(found["sha256"])
    except (KeyError, ValueError) as error:
        raise ProjectError(f"{APPROVED} is damaged: {error}.") from None


if __name__ == "__main__":
    sys.exit(call(choose, "GATE FOLDER", sys.argv[1:]))
