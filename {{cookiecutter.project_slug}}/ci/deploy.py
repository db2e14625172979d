"""Deploy a release to the environment that ENVIRONMENT names.

``python ci/deploy.py ENGINE FOLDER`` deploys the release in FOLDER by its digest; nothing is built.
Exit code 1: it is refused or taken back, and the previous release stays in place.
"""

import sys
from pathlib import Path

import release
{%- if cookiecutter.deployment_flavor != "api" %}
from compare import compare
{%- endif %}
from container import pull, run
{%- if cookiecutter.deployment_flavor != "api" %}
from jobs import Job
{%- endif %}
{%- if cookiecutter.deployment_flavor != "batch" %}
from machine import Machine
{%- endif %}
from program import call
from release import NAME, REVISION, Release
{%- if cookiecutter.deployment_flavor != "batch" %}
from rollout import replace
{%- endif %}

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.tables.locks import only_one

CACHE = Path.home() / ".cache"


def deploy(engine: str, folder: str) -> None:
    """:raises ProjectError: it is older than the deployed release, or fails its checks."""
    environment = release.environment()
    with alone(environment):
        replace_by(release.read(Path(folder)), engine, environment)


def alone(environment: str):
    """:raises ProjectError: another process on this machine deploys or rolls back there."""
    return only_one(f"{NAME}-{environment}", CACHE, f"A rollout to {environment}")


def replace_by(new: Release, engine: str, environment: str) -> None:
    before = serving(engine, environment, new.repository)
    if before and not release.descends(new.revision, before.revision):
        raise ProjectError(
            f"revision {new.revision[:12]} does not come after {before.revision[:12]}, which "
            f"{environment} has: release a newer one, or `make rollback`."
        )
    print(f"{environment} gets {new}; it has {before or 'nothing yet'}.")
    pull(engine, new.image)
    put(engine, environment, new, before, careful=True)
    if before and before.digest != new.digest:
        release.tag(new.repository, before.digest, f"{environment}-previous")
    release.tag(new.repository, new.digest, environment)


def serving(engine: str, environment: str, repository: str) -> Release | None:
    digest = release.digest_of(repository, environment)
    return release.of(engine, repository, digest) if digest else None


def half_way(engine: str, environment: str, told: Release) -> bool:
    """Whether this machine already has another release than ``told``, which the registry names."""
{%- if cookiecutter.deployment_flavor != "batch" %}
    running = set(Machine(engine, environment, settings.load()).running().values())
    if running - {told.digest}:
        return True
{%- endif %}
    here = release.label(engine, f"{NAME}:{environment}", REVISION)
    return here not in ("", told.revision)


def put(engine: str, environment: str, new: Release, before: Release | None, careful: bool) -> None:
    """Put a release to work; if ``careful``, only after trying it beside the previous one."""
    config = settings.load()
{%- if cookiecutter.deployment_flavor != "api" %}
    if before and careful and before.digest != new.digest:
        compare(Job(engine, environment, config), before, new, config)
{%- endif %}
{%- if cookiecutter.deployment_flavor != "batch" %}
    canary = tuple(config.rollout.canary) if careful else ()
    replace(Machine(engine, environment, config), new, before, canary)
{%- endif %}
    # The tag of the deployed image on this machine, for a schedule and for half_way().
    run(engine, "tag", new.image, f"{NAME}:{environment}")


if __name__ == "__main__":
    sys.exit(call(deploy, "ENGINE FOLDER", sys.argv[1:]))
