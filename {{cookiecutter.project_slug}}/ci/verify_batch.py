"""Check the deployed batch job by a run on ``batch.input``, and by the run's manifest.

``python ci/verify_batch.py ENGINE FOLDER`` runs what the schedule of ENVIRONMENT would run, into a
separate folder. Exit code 1: the run fails, has another model or contract than the release in
FOLDER, predicts no row, or loses rows.
"""

import secrets
import sys
from pathlib import Path

import release
from jobs import DRY_RUNS, Job
from program import call
from release import NAME, Release

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.errors import ProjectError


def verify_deployed(engine: str, folder: str) -> None:
    environment = release.environment()
    job = Job(engine, environment, settings.load())
    verify(job, f"{NAME}:{environment}", release.read(Path(folder)))


def verify(job: Job, image: str, deployed: Release) -> None:
    """:raises ProjectError: the deployed batch job fails a check."""
    folder = f"{DRY_RUNS}/{secrets.token_hex(6)}"
    try:
        manifest = job.score(image, folder, "verify")
    finally:
        job.forget(image, folder)
    rows, model = manifest["rows"], manifest["model"]["sha256"]
    if model != deployed.model or manifest["contract"] != deployed.contract:
        raise ProjectError(f"it scores with model {model[:12]}, not {deployed.model[:12]}.")
    if not rows["predicted"] or rows["read"] != rows["predicted"] + rows["rejected"]:
        raise ProjectError(f"it published no predictions, or not all: {rows}.")
    print(f"It scores with model {model[:12]}: {rows}.")


if __name__ == "__main__":
    sys.exit(call(verify_deployed, "ENGINE FOLDER", sys.argv[1:]))
