"""``openapi``: write the description of the API to docs/openapi.json.

It refuses if clients of the committed description would break, unless the contract has a new
version.
"""

import argparse
import json
from pathlib import Path

from ..errors import ProjectError
from ..schema.compatibility import changes
from ..settings import load, root
from .routes import application

MOST = 3  # changes that an error names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, default=root() / "docs" / "openapi.json")


def run(arguments: argparse.Namespace) -> int:
    new, file = application(load(), None).openapi(), arguments.file
    if file.exists():
        try:
            old = json.loads(file.read_text("utf-8"))
            broken, version = breaking(old, new), old["info"]["version"]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ProjectError(f"{file}: describes no API of this kind; remove it first.") from None
        if broken and version == new["info"]["version"]:
            more = f" and {len(broken) - MOST} more" * (len(broken) > MOST)
            raise ProjectError(
                f"raise the version in contract.py, {version}, because clients of {file.name} "
                f"would break: {'; '.join(broken[:MOST])}{more}."
            )
    file.write_text(json.dumps(new, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(file)
    return 0


def breaking(old: dict, new: dict) -> list[str]:
    """The changes that break clients of the old document, a phrase for each."""
    contracts = (each["info"]["x-contract"] for each in (old, new))
    return sorted([*gone(old, new), *changes(*contracts)])


def gone(old: dict, new: dict) -> list[str]:
    """The operations of the old document that the new one lacks."""
    before, after = (
        {f"{method.upper()} {path}" for path, each in one["paths"].items() for method in each}
        for one in (old, new)
    )
    return [f"{operation} is gone" for operation in sorted(before - after)]
