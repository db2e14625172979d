"""Do the commands that a reader of the README types work, and does make explain them?"""

import os
import re
import shlex
import shutil

import pytest
from conftest import TEMPLATE, attempt, run

README = (TEMPLATE / "README.md").read_text("utf-8")
MAKEFILE = (TEMPLATE / "Makefile").read_text("utf-8")
TARGETS = re.findall(r"(?m)^\.PHONY: ([a-z-]+)$", MAKEFILE)
COMMANDS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.strip()
]
# Placeholders in the README for the template's location.
SOURCE = re.compile("gh:OWNER/REPOSITORY|path/to/this/folder")
COPIED = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache")


@pytest.fixture
def clone(tmp_path):
    """A copy of the template without an environment, as after git clone."""
    return shutil.copytree(TEMPLATE, tmp_path / "a template", ignore=COPIED)


def test_make_alone_explains_every_target():
    explained = re.findall(r"(?m)^  ([a-z-]+) +\S", run("make", cwd=TEMPLATE))
    assert explained == [target for target in TARGETS if target != "always"]


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make")])
def test_make_targets_of_the_readme_exist(command):
    name = shlex.split(command)[1]
    assert name in TARGETS
    # Run for real below, by this very test run, or in a rendered project (test_generated.py).
    assert name in {"demo", "new", "test"}


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("cookiecutter")])
def test_cookiecutter_commands_of_the_readme_run(command, tmp_path):
    arguments = SOURCE.sub(str(TEMPLATE), command)
    run(*shlex.split(arguments), "--default-config", cwd=tmp_path, input="\n" * 20)
    assert len(list(tmp_path.glob("*/README.md"))) == 1


def test_the_readme_has_both_commands():
    assert [line for line in COMMANDS if line.startswith("make")][:2] == ["make demo", "make test"]
    assert {line.split()[0] for line in COMMANDS} <= {"git", "cd", "make", "cookiecutter", "cruft"}


def test_an_old_python_is_refused_in_one_sentence(clone):
    done = attempt("make", "demo", "PYTHON=false", cwd=clone)
    assert done.returncode != 0
    assert done.stdout.splitlines()[0] == (
        "Python 3.11 or newer is needed; name yours with PYTHON=/path/to/python."
    )
    assert not (clone / ".venv").exists()


@pytest.mark.xdist_group("template")
def test_tests_that_share_a_project_share_a_worker(request):
    """pytest-xdist adds the group to a test's name, unless it is too old for pytest."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    assert worker is None or request.node.nodeid.endswith("@template")


@pytest.mark.slow
@pytest.mark.xdist_group("template")
def test_template_demo_then_again_then_changed_then_moved(clone):
    first = run("make", "demo", cwd=clone)
    assert "Making .venv" in first
    assert "Rendering build/demo" in first

    second = run("make", "demo", cwd=clone)
    assert "Making" not in second
    assert "Rendering" not in second
    assert "build/demo/iris-flower-prediction" in second

    readme = clone / "{{cookiecutter.project_slug}}" / "README.md"
    readme.write_text(readme.read_text("utf-8") + "\nChanged.\n", "utf-8")
    moved = clone.rename(clone.with_name("moved"))
    third = run("make", "demo", cwd=moved)
    assert "Making .venv" in third
    assert "Rendering build/demo" in third
    project = moved / "build" / "demo" / "iris-flower-prediction"
    assert (project / "README.md").read_text("utf-8").endswith("\nChanged.\n")


@pytest.mark.slow
@pytest.mark.xdist_group("template")
def test_template_new_asks_and_renders_where_told(clone, tmp_path):
    run("make", "new", f"OUTPUT={tmp_path}/mine", cwd=clone, input="Red Flowers\n" + "\n" * 20)
    assert (tmp_path / "mine" / "red-flowers" / "README.md").is_file()


@pytest.mark.slow
@pytest.mark.xdist_group("template")
def test_template_passes_its_own_hooks(clone):
    run("git", "init", "--quiet", cwd=clone)
    run("git", "add", "--all", cwd=clone)
    run("pre-commit", "run", "--all-files", cwd=clone)


@pytest.mark.slow
@pytest.mark.xdist_group("template")
def test_template_runs_the_checks_of_a_rendered_project(clone):
    answers = "ANSWERS=ci_provider=azure deployment_flavor=api"
    said = run("make", "rendered-ci", answers, "CHECKS=compatibility secrets", cwd=clone)
    assert "Nothing breaks." in said
    assert re.search(r"Findings\.+: 0", said)
    assert (clone / "build/rendered/iris-flower-prediction/.azuredevops/change.yml").exists()
