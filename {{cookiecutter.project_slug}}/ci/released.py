"""Tag a release, and list what changed since the last one.

``python ci/released.py FOLDER`` writes ``notes.md`` to FOLDER. In a workflow it publishes the tag
and the notes; elsewhere the tag is only in this checkout. A release that has a tag keeps it.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import forge
import release
from container import run
from program import call
from release import Release

from {{ cookiecutter.__package_name }}.tables.json_files import read_json

CLIFF = (".venv-ci/bin/git-cliff", "--config", "ci/cliff.toml")


def announce(folder: str) -> None:
    """:raises ProjectError: there is no release, or the tag cannot be made."""
    released = release.read(Path(folder))
    tag, known = tag_of(released.revision)
    notes = Path(folder, "notes.md")
    notes.write_text(told(released, Path(folder), tag), "utf-8")
    if os.environ.get("CI"):
        print(forge.release(tag, released.revision, notes.read_text("utf-8")))
    elif not known:
        run("git", "tag", "--annotate", "--file", str(notes), tag, released.revision)
        print(f"{tag} is in this checkout: git push origin {tag}")


def tag_of(revision: str) -> tuple[str, bool]:
    """The tag of a commit, vYYYY.MM.DD or the next .N of that day, and whether it exists."""
    if mine := run("git", "tag", "--list", "v[0-9]*", "--points-at", revision).split():
        return mine[0], True
    today = f"v{datetime.now(UTC):%Y.%m.%d}"
    taken = run("git", "tag", "--list", f"{today}*").split()
    return (f"{today}.{len(taken)}" if taken else today), False


def told(released: Release, folder: Path, tag: str) -> str:
    """The notes in Markdown: what was released, its metrics, and the commits."""
    inventory = read_json(folder / "inventory.json") or {"model": {}}
    metrics = inventory["model"].get("metrics", {})
    rows = [f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items())]
    changes = run(*CLIFF, "--unreleased", "--tag", tag, "--strip", "all").strip()
    return "\n".join(
        [
            f"Image `{released.image}`, model `{released.model}`, contract {released.contract}.",
            "",
            "| metric | value |",
            "|---|---:|",
            *rows,
            "",
            changes or "No commits since the last release.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(call(announce, "FOLDER", sys.argv[1:]))
