"""Is the rendered text itself clean: no Jinja left, every file parses, nothing to lint?"""

import json
import re
import tomllib
from itertools import combinations

import nbformat
import pytest
import yaml
from conftest import CHOICES, COMBINATIONS, EACH, FLAVORS, HOSTILE, QUESTIONS, TEMPLATE, label, run

FREE_TEXT = ("project_name", "description", "author_name")
JINJA = re.compile(r"\bcookiecutter\.\w|\{%-?\s*\w+[^%]*%\}|\{#.*#\}")
WINDOWS_REFUSES = re.compile(
    r'[<>:"|?*\\\x00-\x1f]|[ .](/|$)|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.[^/]*)?(/|$)', re.I
)
EMAIL = re.compile(r"[\w.+-]+@(?!example\.(?:com|org)\b|users\.noreply\.)[\w-]+\.[a-z]{2,}\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+|work)/")


def notebook(text):
    read = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
    nbformat.validate(read)
    for cell in read.cells:
        if cell.cell_type == "code":
            compile(re.sub(r"(?m)^\s*[%!].*", "", cell.source), "cell", "exec")


PARSERS = {
    ".toml": tomllib.loads,
    ".json": json.loads,
    ".yaml": lambda text: list(yaml.safe_load_all(text)),
    ".yml": lambda text: list(yaml.safe_load_all(text)),
    ".py": lambda text: compile(text, "module", "exec"),
    ".ipynb": notebook,
}


def parse_all(project):
    """Parses every file of a known kind; returns the kinds that were there."""
    parsed = set()
    for name, text in project.texts():
        suffix = "." + name.rpartition(".")[2]
        if suffix in PARSERS:
            try:
                PARSERS[suffix](text)
            except Exception as error:
                raise AssertionError(f"{name} does not parse: {error}") from error
            parsed.add(suffix)
    return parsed


@pytest.mark.parametrize("answers", COMBINATIONS, ids=label)
def test_no_jinja_is_left(bake, answers):
    for name, text in bake(**answers).texts():
        assert "cookiecutter" not in name
        # git-cliff's template has the same syntax as Jinja, and pages of the project use Jinja.
        own = name.endswith(("ci/cliff.toml", ".html", ".j2"))
        assert own or not JINJA.search(text), name


@pytest.mark.parametrize("answers", COMBINATIONS, ids=label)
def test_every_file_parses(bake, answers):
    assert parse_all(bake(**answers)) >= {".toml", ".yaml", ".py", ".ipynb"}


@pytest.mark.parametrize("answers", COMBINATIONS, ids=label)
def test_ruff_is_content(bake, answers):
    project = bake(**answers)
    project.run("ruff", "check", "--no-cache", ".")
    project.run("ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("answers", FLAVORS, ids=label)
def test_hostile_answers_render_what_parses(bake, answers, text):
    project = bake(**answers, **dict.fromkeys(FREE_TEXT, text))
    line = " ".join(text.split())
    parse_all(project)
    metadata = tomllib.loads(project.text("pyproject.toml"))["project"]
    assert metadata["description"] == line
    assert metadata["authors"][0]["name"] == line
    assert line in project.text("README.md")
    assert docker_labels(project.text("Dockerfile")) == {
        "title": line,
        "description": line,
        "authors": f"{line} <{metadata['authors'][0]['email']}>",
    }


def docker_labels(dockerfile):
    """The labels that hold free text, as docker reads them: $NAME would be another text."""
    labels = re.findall(
        r'image\.(title|description|authors)="((?:[^"\\$]|\\.)*)"( \\)?\n', dockerfile
    )
    return {name: re.sub(r"\\(.)", r"\1", text) for name, text, _ in labels}


@pytest.mark.parametrize("version", CHOICES["python_version"])
def test_the_python_version_reaches_every_tool(bake, version):
    project = bake(python_version=version)
    settings = tomllib.loads(project.text("pyproject.toml"))
    assert project.text(".python-version") == f"{version}\n"
    assert settings["project"]["requires-python"] == f">={version}"
    assert settings["tool"]["ruff"]["target-version"] == f"py{version.replace('.', '')}"
    assert f"\nARG PYTHON_VERSION={version}\n" in project.text("Dockerfile")
    assert f"python{version}" in project.text("Makefile")


def test_the_longest_package_name_keeps_the_lines_short(bake):
    project = bake(project_slug="f" * 40)
    project.run("ruff", "check", "--no-cache", ".")
    project.run("ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.parametrize("answers", FLAVORS, ids=label)
def test_lines_end_with_lf(bake, answers):
    project = bake(**answers, description="one\r\ntwo")
    assert [name for name in project.files() if b"\r" in (project.path / name).read_bytes()] == []
    for name, text in project.texts():
        assert text.endswith("\n") or not text, name


@pytest.mark.parametrize("answers", FLAVORS, ids=label)
def test_rendering_twice_gives_the_same(bake, cookies, answers):
    again = cookies.bake(extra_context=answers).project_path
    project = bake(**answers)
    assert {name: (again / name).read_bytes() for name in project.files()} == {
        name: (project.path / name).read_bytes() for name in project.files()
    }


@pytest.mark.parametrize(
    ("question", "one", "other"),
    [(key, *pair) for key, answers in CHOICES.items() for pair in combinations(answers, 2)],
)
def test_every_answer_has_an_effect(bake, question, one, other):
    # The answer must change more than a text that names it.
    assert stripped(bake(**{question: one}), one) != stripped(bake(**{question: other}), other)


def stripped(project, answer):
    return {name: text.replace(answer, "") for name, text in project.texts()}


@pytest.fixture(scope="module")
def template_files(tmp_path_factory):
    """The files of the template that are, or would be, committed."""
    empty = tmp_path_factory.mktemp("empty")
    run("git", "init", "--quiet", cwd=empty)
    unborn = ("git", f"--git-dir={empty}/.git", f"--work-tree={TEMPLATE}")
    listed = run(*unborn, "ls-files", "-z", "--others", "--exclude-standard", cwd=TEMPLATE)
    return listed.rstrip("\0").split("\0")


def test_windows_takes_every_path(template_files):
    refused = [
        name
        for name in template_files
        if WINDOWS_REFUSES.search(re.sub(r"\{\{cookiecutter\.\w+\}\}", "x", name))
    ]
    assert refused == []


def test_nothing_names_a_person_or_a_machine(template_files):
    named = [
        f"{name}: {found[0]}"
        for name in template_files
        if b"\0" not in (content := (TEMPLATE / name).read_bytes())
        if (found := (EMAIL.search(text := content.decode()) or MACHINE_PATH.search(text)))
    ]
    assert named == []


def test_template_files_end_lines_with_lf(template_files):
    assert [n for n in template_files if b"\r" in (TEMPLATE / n).read_bytes()] == []


@pytest.mark.parametrize("folder", ["", "{{cookiecutter.project_slug}}/"])
def test_hooks_are_pinned_to_the_lock(folder):
    locked = dict(re.findall(r"(?m)^([\w-]+)==(\S+)", (TEMPLATE / "requirements.txt").read_text()))
    config = yaml.safe_load((TEMPLATE / f"{folder}.pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    for hook in hooks:
        name, version = hook["additional_dependencies"][0].split("==")
        assert version == locked[name], hook["id"]


def test_the_workflow_tests_every_answer_python_and_rendering():
    workflow = yaml.safe_load((TEMPLATE / ".github/workflows/ci.yml").read_text("utf-8"))
    matrix = {job: steps["strategy"]["matrix"] for job, steps in workflow["jobs"].items()}
    assert matrix["test"] == {"python": CHOICES["python_version"]}
    makefile = (TEMPLATE / "Makefile").read_text("utf-8")
    [renderings] = re.findall(r"(?m)^RENDERINGS := (.*)$", makefile)
    assert matrix["slow"] == {"tests": ["template", *renderings.split()]}
    for key in ("ci_provider", "deployment_flavor"):
        assert {each[key] for each in matrix["rendered"]["include"]} == set(CHOICES[key])
    for key in FLAVORS[0]:
        assert {each[key] for each in EACH} == set(CHOICES[key])
    assert set(FLAVORS[0]) | {"ci_provider", "license", "python_version"} == set(CHOICES)
    assert set(FREE_TEXT) < set(QUESTIONS)
