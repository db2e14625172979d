"""Push an image, and describe the release: its digest, its contents and its provenance.

``python ci/publish.py ENGINE IMAGE REPOSITORY FOLDER`` writes three files to FOLDER: release.json,
whose digest identifies the image from now on; inventory.json, from which sbom.py makes the bill of
materials; and provenance.json in SLSA's format. Exit code 1: the image holds no model or was not
built from a commit, or the registry refuses it.
"""

import os
import re
import sys
from pathlib import Path

import release
from container import push, run
from origin import without_password
from program import call
from release import Release

from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.models.registry import now
from {{ cookiecutter.__package_name }}.tables.json_files import write_json

# The variables that identify the workflow and this run.
BUILDER, RUN = {{ {"github": '"GITHUB_WORKFLOW_REF", "GITHUB_RUN_ID"', "gitlab": '"CI_PROJECT_URL", "CI_JOB_URL"', "azure": '"BUILD_DEFINITIONNAME", "BUILD_BUILDURI"'}[cookiecutter.ci_provider] }}
PREDICATE = "https://slsa.dev/provenance/v1"
STATEMENT = "https://in-toto.io/Statement/v1"


def publish(engine: str, image: str, repository: str, folder: str) -> None:
    """:raises ProjectError: see above."""
    started, found = now(), release.inventory(engine, image)
    if not re.fullmatch("[0-9a-f]{40,64}", revision := found["revision"]):
        raise ProjectError(f"{image} was not built from a commit: commit all, then `make image`.")
    repository = release.named(repository)
    tagged = f"{repository}:{revision}"
    run(engine, "tag", image, tagged)
    push(engine, tagged)
    digest, model = release.digest_of(repository, revision), found["model"]
    if digest is None:
        raise ProjectError(f"the registry does not know {tagged} after it was pushed.")
    published = Release(repository, digest, revision, model["sha256"], model["contract"])
    release.write(Path(folder), published)
    write_json(Path(folder, "inventory.json"), found)
    write_json(Path(folder, "provenance.json"), provenance(published, started))
    print(f"Published {published}.")


def provenance(published: Release, started: str) -> dict:
    """From what, where and when an image was built: https://slsa.dev/spec/v1.0/provenance."""
    remote = run("git", "config", "--get", "--default=unknown", "remote.origin.url").strip()
    source = without_password(remote)
    algorithm, _, value = published.digest.partition(":")
    return {
        "_type": STATEMENT,
        "subject": [{"name": published.repository, "digest": {algorithm: value}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"{source}#Dockerfile.model",
                "externalParameters": {"source": source},
                "resolvedDependencies": [
                    {
                        "uri": f"git+{source}",
                        "digest": {"gitCommit": published.revision},
                    },
                    {"name": "model", "digest": {"sha256": published.model}},
                ],
            },
            "runDetails": {
                "builder": {"id": os.environ.get(BUILDER, "local")},
                "metadata": {
                    "invocationId": os.environ.get(RUN, "local"),
                    "startedOn": started,
                    "finishedOn": now(),
                },
            },
        },
    }


if __name__ == "__main__":
    sys.exit(call(publish, "ENGINE IMAGE REPOSITORY FOLDER", sys.argv[1:]))
