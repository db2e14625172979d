"""Protect the main branch and the environments on the server.

``python ci/protect.py [--dry-run] REVIEWER…`` lists the protections and applies them; a second run
changes nothing. Exit code 1: the server refuses some of them. 2: no reviewer or no token is given.
"""

import sys

import forge
from http_json import RefusedError

from {{ cookiecutter.__package_name }}.errors import ProjectError

DRY = "--dry-run"


def main(argv: list[str]) -> int:
    reviewers = [word for word in argv if word != DRY]
    if not reviewers or reviewers[0].startswith("-"):
        print("usage: python ci/protect.py [--dry-run] REVIEWER…", file=sys.stderr)
        return 2
    for sentence, _ in forge.protections(reviewers):
        print(sentence)
    if DRY in argv:
        return 0
    try:
        forge.token()
    except ProjectError as problem:
        print(f"error: {problem} Nothing was changed.", file=sys.stderr)
        return 2
    return protect(reviewers)


def protect(reviewers: list[str]) -> int:
    """Apply each protection separately: a plan that lacks one still gets the others."""
    refused = 0
    for sentence, action in forge.protections(reviewers):
        try:
            action()
        except ProjectError as problem:
            print(f"error: {sentence.partition(':')[0]}: {problem}", file=sys.stderr)
            refused += 1
            if isinstance(problem, RefusedError) and problem.status == 401:
                break
    print("Not all of it is in force." if refused else "All of it is in force.")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
