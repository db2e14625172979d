"""Whether the batch job that was deployed does its work: a run on the sample, and its manifest.

``python ci/verify_batch.py ENGINE FOLDER`` runs what the schedule of ENVIRONMENT would run, into a
folder of its own. 1: it fails, is another release than the one in FOLDER, or counts other rows than
it read.
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
    """:raises ProjectError: what is deployed does not do what it must."""
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
