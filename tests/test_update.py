"""Does a project follow its template through cruft, with the user's own edits kept?"""

import json
import shutil

import pytest
from conftest import EACH, HOSTILE, TEMPLATE, Project, attempt, label, run, verbatim

LOCAL = (".git", ".venv", "build", "__pycache__", ".*_cache")
EDIT = "\n# Written by the user.\n"
CHANGE = "\n# A newer template says this.\n"


def commit(folder):
    run("git", "add", "--all", cwd=folder)
    identity = ("-c", "user.name=A team", "-c", "user.email=team@example.com")
    run("git", *identity, "commit", "--quiet", "--allow-empty", "--message", "x", cwd=folder)


def tracked(project):
    return sorted(path for path in project.files() if not path.startswith(".git/"))


@pytest.fixture
def template(tmp_path):
    """The template in a repository of its own, free to change."""
    folder = shutil.copytree(TEMPLATE, tmp_path / "template", ignore=shutil.ignore_patterns(*LOCAL))
    run("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    commit(folder)
    return folder


@pytest.fixture
def create(template, tmp_path):
    """Makes a project through cruft and commits it."""

    def create(**answers):
        context = json.dumps({key: verbatim(answer) for key, answer in answers.items()})
        cruft = ("cruft", "create", str(template), "--no-input", "--default-config")
        run(*cruft, "--output-dir", "out", "--extra-context", context, cwd=tmp_path)
        (folder,) = (tmp_path / "out").iterdir()
        run("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
        commit(folder)
        return Project(folder)

    return create


@pytest.mark.parametrize("answers", EACH, ids=label)
def test_update_brings_the_change_and_keeps_the_edit(template, create, answers):
    project = create(**answers)
    project.run("cruft", "check")
    model = f"src/{project.package}/model.py"
    before = tracked(project)

    # The user edits the start of two files, the template changes their ends.
    for name in (model, "README.md"):
        (project.path / name).write_text(EDIT + project.text(name), "utf-8")
    commit(project.path)
    source = template / "{{cookiecutter.project_slug}}"
    variant = f"model_{answers['problem_type']}.py"
    for path in (source / "src/{{cookiecutter.__package_name}}" / variant, source / "README.md"):
        path.write_text(path.read_text("utf-8") + CHANGE, "utf-8")
    (source / "new.txt").write_text("{{ cookiecutter.project_slug }}\n", "utf-8")
    commit(template)

    assert attempt("cruft", "check", cwd=project.path).returncode == 1
    project.run("cruft", "update", "--skip-apply-ask")
    project.run("cruft", "check")
    for name in (model, "README.md"):
        assert project.text(name).startswith(EDIT)
        assert project.text(name).endswith(CHANGE)
    assert project.text("new.txt") == f"{project}\n"
    assert tracked(project) == sorted([*before, "new.txt"])


def test_update_renders_hostile_answers_again(template, create):
    text = " ".join(HOSTILE.values())
    project = create(description=text, project_slug="flowers")
    before = project.text("README.md")
    # cruft keeps an answer as text, but reads it as a Jinja template when it updates.
    state = json.loads(project.text(".cruft.json"))
    state["context"]["cookiecutter"]["description"] = verbatim(text)
    (project.path / ".cruft.json").write_text(json.dumps(state), "utf-8")
    commit(project.path)
    readme = template / "{{cookiecutter.project_slug}}" / "README.md"
    readme.write_text(readme.read_text("utf-8") + CHANGE, "utf-8")
    commit(template)
    project.run("cruft", "update", "--skip-apply-ask")
    assert project.text("README.md") == before + CHANGE
