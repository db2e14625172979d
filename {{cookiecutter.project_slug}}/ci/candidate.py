"""Tag the release in FOLDER as ``candidate``: it has passed in NONPROD.

``python ci/candidate.py FOLDER``
"""

import sys
from pathlib import Path

import release
from program import call


def approve(folder: str) -> None:
    """:raises ProjectError: there is no release, or the registry refuses the tag."""
    approved = release.read(Path(folder))
    release.tag(approved.repository, approved.digest, "candidate")
    print(f"Candidate: {approved}.")


if __name__ == "__main__":
    sys.exit(call(approve, "FOLDER", sys.argv[1:]))
