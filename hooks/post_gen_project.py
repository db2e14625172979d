"""Keeps the files that belong to the answers, removes the others, and prints the next command."""

import json
import shutil
import sys
from pathlib import Path

# Rendered by cookiecutter, see pre_gen_project.py.
ANSWERS = r"""{{ cookiecutter | tojson }}"""

# (question, its answers): files that have a version for each answer, NAME_<answer>.EXT.
# The chosen version becomes NAME.EXT; the others are removed.
VARIANTS = {
    ("problem_type", ("classification", "regression")): (
        "data/raw/example.csv",
        "docs/openapi.json",
        "src/{package}/contract.py",
        "src/{package}/model.py",
        "tests/known_answers.csv",
    ),
    ("deployment_flavor", ("batch", "api", "both")): (
        "deploy/monitoring/dashboard.json",
        "deploy/monitoring/rules.yml",
        "deploy/monitoring/sla.md",
        "requirements-dev.txt",
        "requirements-train.txt",
        "requirements.txt",
    ),
    ("deployment_flavor", ("batch", "both")): ("requirements-spark.txt",),
    ("ci_provider", ("github", "gitlab", "azure")): ("ci/forge.py",),
    ("ci_provider", ("gitlab", "azure")): ("renovate.json",),
    ("license", ("MIT", "Apache-2.0", "BSD-3-Clause", "Proprietary")): ("LICENSE",),
}

# (question, some of its answers): files and folders that only these answers keep. For a file with
# versions, the name after the choice is given.
ONLY = {
    ("deployment_flavor", ("batch", "both")): (
        "ci/compare.py",
        "ci/jobs.py",
        "ci/smoke_batch.py",
        "ci/verify_batch.py",
        "data/rejected",
        "docs/batch.md",
        "src/{package}/batch",
        "src/{package}/monitoring/batch_runs.py",
        "src/{package}/monitoring/slo/of_batch.py",
        "tests/integration/test_batch.py",
    ),
    ("ci_provider", ("github",)): (".github", "ci/annotate.py"),
    ("ci_provider", ("gitlab",)): (".gitlab", ".gitlab-ci.yml"),
    ("ci_provider", ("azure",)): (".azuredevops",),
    ("deployment_flavor", ("api", "both")): (
        "ci/machine.py",
        "ci/proxy",
        "ci/rollout.py",
        "ci/slo.py",
        "ci/smoke_api.py",
        "ci/verify_api.py",
        "docs/api.md",
        "docs/openapi.json",
        "src/{package}/api",
        "src/{package}/monitoring/api_predictions.py",
        "src/{package}/monitoring/slo/alerts_api.yml.j2",
        "src/{package}/monitoring/slo/of_api.py",
        "tests/integration/test_api.py",
        "tests/load",
    ),
}


def steps(answers, variants=VARIANTS, only=ONLY):
    """Every path of the table with its new path, or None if it is removed."""
    stays = {
        path: answers[question] in choices
        for (question, choices), paths in only.items()
        for path in paths
    }
    for (question, choices), paths in variants.items():
        for path in paths:
            stay = stays.pop(path, True)
            for choice in choices:
                target = path if stay and choice == answers[question] else None
                yield in_package(version(path, choice), answers), in_package(target, answers)
    for path, stay in stays.items():
        yield in_package(path, answers), in_package(path if stay else None, answers)


def version(path, choice):
    """src/model.py, regression -> src/model_regression.py"""
    path = Path(path)
    return path.with_name(f"{path.stem}_{choice}{path.suffix}").as_posix()


def in_package(path, answers):
    return path and Path(path.format(package=answers["__package_name"]))


def arrange(folder, planned):
    """Renames and removes as planned. Returns the planned paths that the template lacks."""
    planned = [(folder / path, target and folder / target) for path, target in planned]
    if arranged(planned):
        return []
    missing = [path.relative_to(folder) for path, _ in planned if not path.exists()]
    if not missing:
        for path, target in planned:
            move(path, target)
    return missing


def arranged(planned):
    """Whether this hook has already run: nothing is left to rename or remove."""
    return all(target.exists() for _, target in planned if target) and not any(
        path.exists() for path, target in planned if path != target
    )


def move(path, target):
    if target:
        path.replace(target)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def main():
    answers = json.loads(ANSWERS)
    missing = arrange(Path.cwd(), list(steps(answers)))
    for path in missing:
        print(f"The template has no {path.as_posix()}, which its table names.", file=sys.stderr)
    if not missing:
        print(f"\nThe project is ready. Next:\n\n    cd {answers['project_slug']}\n    make run\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
