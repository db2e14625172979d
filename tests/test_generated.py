"""Does a rendered project work: its environment, linters, hooks, jobs, notebooks?"""

import re

import nbformat
import pre_gen_project
import pytest
from conftest import (
    EACH,
    Project,
    examples,
    in_environment,
    label,
    predict,
    run,
    serving,
)

pytestmark = pytest.mark.slow


def for_each(flavors):
    """A test for each flavor, on the worker that has its environment."""
    return pytest.mark.parametrize(
        "answers",
        [pytest.param(each, marks=pytest.mark.xdist_group(label(each))) for each in flavors],
        ids=label,
    )


EVERY_FLAVOR = for_each(EACH)
BATCH = for_each([each for each in EACH if each["deployment_flavor"] != "api"])
API = for_each([each for each in EACH if each["deployment_flavor"] != "batch"])
# If batch or API makes no difference, one project of each problem is enough.
EVERY_PROBLEM = for_each(EACH[:2])
# The import names of the project's requirements, which differ from the distributions' names.
IMPORT_NAMES = """
import re, tomllib
from importlib.metadata import packages_distributions
metadata = tomllib.load(open("pyproject.toml", "rb"))
wanted = [*metadata["project"]["dependencies"], *sum(metadata["dependency-groups"].values(), [])]
wanted = {re.match(r"[\\w.-]+", each)[0].lower() for each in wanted if isinstance(each, str)}
for name, distributions in packages_distributions().items():
    if wanted & {each.lower() for each in distributions} and re.match("[a-z]", name):
        print(name.lower())
"""


@EVERY_FLAVOR
def test_its_linters_are_content(install, answers):
    install(**answers).run("make", "lint")


@EVERY_FLAVOR
def test_its_hooks_pass_and_change_nothing(install, answers):
    project = install(**answers)
    in_environment(project, "pre-commit", "run", "--all-files")
    assert project.run("git", "status", "--porcelain") == ""


@EVERY_PROBLEM
def test_its_hooks_refuse_what_must_not_be_committed(install, answers, tmp_path):
    project = install(**answers)
    run("git", "clone", "--quiet", str(project.path), "clone", cwd=tmp_path)
    clone = Project(tmp_path / "clone")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="a secret")]
    nbformat.write(notebook, clone.path / "analysis" / "new.ipynb")
    key = "-----BEGIN RSA " + "PRIVATE KEY-----\n"
    (clone.path / "key.txt").write_text(key, "utf-8")
    (clone.path / "large.txt").write_text("0123456789\n" * 200_000, "utf-8")
    (clone.path / "broken.toml").write_text("key = \n", "utf-8")
    clone.run("git", "add", "--all")
    with pytest.raises(AssertionError) as refused:
        in_environment(project, "pre-commit", "run", cwd=clone.path)
    for name in ("key.txt", "large.txt", "broken.toml"):
        assert name in str(refused.value)
    assert "a secret" not in clone.text("analysis/new.ipynb")


@EVERY_PROBLEM
def test_its_notebooks_run(install, answers):
    install(**answers).run("make", "train", "notebooks")


@BATCH
def test_its_main_job_leaves_predictions_and_a_clean_checkout(install, answers):
    project = install(**answers)
    project.run("make", "run")
    predictions = [
        name
        for name in project.files()
        if name.startswith("data/predictions/") and name.endswith((".csv", ".parquet"))
    ]
    assert predictions
    # What the jobs write is ignored by git; the user never commits a database by accident.
    assert project.run("git", "status", "--porcelain") == ""


@API
def test_its_api_answers_and_leaves_a_clean_checkout(install, answers, tmp_path):
    project = install(**answers)
    # The main job of an API project trains and serves; that of a project with both scores.
    target = "run"
    if answers["deployment_flavor"] == "both":
        project.run("make", "train")
        target = "serve"
    with serving(project, target, tmp_path / "log") as port:
        body, expected = examples(project)
        assert predict(port, body) == expected
    assert project.run("git", "status", "--porcelain") == ""


@EVERY_FLAVOR
def test_its_readme_names_only_targets_that_exist(install, answers):
    project = install(**answers)
    named = set(re.findall(r"(?m)`make ([a-z-]+)|^make ([a-z-]+)", project.text("README.md")))
    assert named
    for target in {"".join(pair) for pair in named}:
        project.run("make", "--dry-run", target)


@EVERY_FLAVOR
def test_its_libraries_cannot_be_package_names(install, answers):
    imported = in_environment(install(**answers), "python", "-c", IMPORT_NAMES).split()
    assert "numpy" in imported
    assert [name for name in imported if not pre_gen_project.taken(name)] == []
