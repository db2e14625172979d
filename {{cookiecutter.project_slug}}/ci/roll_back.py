"""Roll the environment that ENVIRONMENT names back to its previous release, in one step.

``python ci/roll_back.py ENGINE REPOSITORY FOLDER`` finds that release by the registry's tags and
writes release.json to FOLDER. Exit code 1: there is none, or it does not start; nothing changes.
"""

import sys
from pathlib import Path

import release
from deploy import alone, half_way, put, serving
from program import call
from release import Release

from {{ cookiecutter.__package_name }}.errors import ProjectError


def put_back(engine: str, repository: str, folder: str) -> None:
    """:raises ProjectError: see above."""
    environment = release.environment()
    with alone(environment):
        old = go_back(engine, release.named(repository), environment)
    release.write(Path(folder), old)


def go_back(engine: str, repository: str, environment: str) -> Release:
    """Deploy the previous release or, after an interrupted rollout, the tagged one; return it."""
    before = serving(engine, environment, repository)
    if before and half_way(engine, environment, before):
        old = before
    else:
        digest = release.digest_of(repository, f"{environment}-previous")
        if digest is None or (before and digest == before.digest):
            raise ProjectError(f"{environment} has no previous release to go back to.")
        old = release.of(engine, repository, digest)
    print(f"{environment} goes back to {old}; it has {before or 'nothing'}.")
    put(engine, environment, old, before, careful=False)
    release.tag(repository, old.digest, environment)
    return old


if __name__ == "__main__":
    sys.exit(call(put_back, "ENGINE REPOSITORY FOLDER", sys.argv[1:]))
