"""Proposes what is newer: ``python ci/renew.py requirements`` or ``python ci/renew.py template``.

Requirements are locked anew by `make lock`; the template's changes come by cruft, where the project
was made with it. 2: neither can be done, or nothing can be proposed.
"""

import subprocess
import sys
from collections.abc import Callable

import change
import forge
import origin

from {{ cookiecutter.__package_name }}.errors import ProjectError

# Resolving, or rendering two versions of the template, in seconds.
SECONDS = 1200
CRUFT = ("--from", "cruft==2.16.0", "--with", "cookiecutter==2.7.1", "cruft")
CHECKED = "The checks of a change say whether all still works."


def main(argv: list[str]) -> int:
    kinds: dict[str, Callable[[], str | None]] = {
        "requirements": requirements,
        "template": template,
    }
    if len(argv) != 1 or argv[0] not in kinds:
        print(f"usage: python ci/renew.py {' | '.join(kinds)}", file=sys.stderr)
        return 2
    try:
        forge.token()
        address = kinds[argv[0]]()
    except (ProjectError, OSError, subprocess.TimeoutExpired) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    print(address or "Nothing is newer.")
    return 0


def requirements() -> str | None:
    run("make", "lock")
    body = f"Written by `make lock`: the newest versions that pyproject.toml allows. {CHECKED}"
    return change.propose("renew/requirements", "Newer requirements", body, "requirements*.txt")


def template() -> str | None:
    if not (origin.PROJECT / ".cruft.json").exists():
        print("The project was not made with cruft: there is no .cruft.json.")
        return None
    run(sys.executable, "-m", "uv", "tool", "run", *CRUFT, "update", "--skip-apply-ask")
    body = (
        f"Written by `cruft update`. {CHECKED} What could not be merged is in files that end in "
        "`.rej`: put it in by hand on this branch, and remove them."
    )
    return change.propose("renew/template", "Newer template", body, ".")


def run(*command: str) -> None:
    """:raises ProjectError: it fails; what it said is on the screen."""
    done = subprocess.run(command, cwd=origin.PROJECT, timeout=SECONDS)
    if done.returncode:
        raise ProjectError(f"`{' '.join(command[-4:])}` exited {done.returncode}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
