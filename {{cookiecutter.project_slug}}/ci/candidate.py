"""Let the registry's tag ``candidate`` name the release in FOLDER: NONPROD has approved it.

``python ci/candidate.py FOLDER``
"""

import sys
from pathlib import Path

import release
from program import call


def approve(folder: str) -> None:
    """:raises ProjectError: there is no release, or the registry refuses."""
    approved = release.read(Path(folder))
    release.tag(approved.repository, approved.digest, "candidate")
    print(f"Candidate: {approved}.")


if __name__ == "__main__":
    sys.exit(call(approve, "FOLDER", sys.argv[1:]))
