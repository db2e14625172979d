"""Files around the code: the same for every provider, valid, and with minimal permissions."""

import json
import re
import shutil
import sys

import pre_gen_project
import pytest
import yaml
from conftest import CHOICES, TEMPLATE, Project, attempt, commit, run

PROVIDERS = pytest.mark.parametrize("provider", CHOICES["ci_provider"])
TARGETS = {
    "retrain": {"retrain"},
    "upkeep": {"renew-requirements", "renew-template"},
}
FILES = {
    "github": {
        ".github/CODEOWNERS",
        ".github/dependabot.yml",
        ".github/pull_request_template.md",
        ".github/workflows/retrain.yml",
        ".github/workflows/upkeep.yml",
    },
    "gitlab": {
        ".gitlab/CODEOWNERS",
        ".gitlab/ci/retrain.yml",
        ".gitlab/ci/upkeep.yml",
        ".gitlab/merge_request_templates/Default.md",
        "renovate.json",
    },
    "azure": {
        ".azuredevops/pull_request_template.md",
        ".azuredevops/retrain.yml",
        ".azuredevops/upkeep.yml",
        "renovate.json",
    },
}
FOLDERS = {"github": ".github/workflows", "gitlab": ".gitlab/ci", "azure": ".azuredevops"}
SCHEMAS = {"github": "github-workflows", "gitlab": "gitlab-ci", "azure": "azure-pipelines"}
RIGHTS = {"actions", "contents", "id-token", "pull-requests"}


def pipeline(project, provider, name):
    return yaml.safe_load(project.text(f"{FOLDERS[provider]}/{name}.yml"))


def jobs(document, provider):
    if provider == "azure":
        return {job["job"]: job for job in document["jobs"]}
    return document["jobs"] if provider == "github" else document


def scripts(job):
    """Every script of a job, once for each kind of its matrix."""
    matrix = job.get("strategy", job.get("parallel", {})).get("matrix", {})
    matrix = matrix[0] if isinstance(matrix, list) else matrix
    kinds = matrix.get("kind") or matrix.get("KIND") or list(matrix) or [""]
    lines = job.get("script") or [
        step.get("run") or step.get("script") for step in job["steps"] if step.keys() & KINDS
    ]
    return [line.replace("$KIND", kind) for kind in kinds for line in lines]


KINDS = {"run", "script"}


@PROVIDERS
def test_the_files_are_those_of_the_provider(bake, provider):
    found = set(bake(ci_provider=provider).files())
    assert FILES[provider] <= found
    others = set().union(*FILES.values()) - FILES[provider]
    assert not others & found


@PROVIDERS
@pytest.mark.parametrize("name", TARGETS)
def test_each_provider_runs_the_same_targets(bake, provider, name):
    project = bake(ci_provider=provider)
    document = pipeline(project, provider, name)
    lines = [line for job in jobs(document, provider).values() for line in scripts(job)]
    found = {match[1] for line in lines if (match := re.search(r'\bmake "?([a-z-]+)', line))}
    assert found == TARGETS[name]
    for target in found:
        assert re.search(rf"(?m)^{target}:.* ## ", project.text("Makefile"))
    # Names and reasons are environment variables.
    assert not any(re.search(r"\$\(|\$\{\{", line) for line in lines)


@PROVIDERS
@pytest.mark.parametrize("name", TARGETS)
def test_the_pipelines_are_valid(bake, provider, name):
    project = bake(ci_provider=provider)
    options = ("--regex-variant", "nonunicode") if provider == "azure" else ()
    words = ("--builtin-schema", f"vendor.{SCHEMAS[provider]}", *options)
    project.run("check-jsonschema", *words, f"{FOLDERS[provider]}/{name}.yml")


def test_gitlab_has_the_stages(bake):
    project = bake(ci_provider="gitlab")
    stages = yaml.safe_load(project.text(".gitlab-ci.yml"))["stages"]
    for name in TARGETS:
        assert pipeline(project, "gitlab", name)[name]["stage"] in stages


@PROVIDERS
def test_updates_are_valid_and_leave_python_and_the_locks_alone(bake, provider):
    project = bake(ci_provider=provider)
    kind, file = ("renovate", "renovate.json")
    if provider == "github":
        kind, file = ("dependabot", ".github/dependabot.yml")
        updates = yaml.safe_load(project.text(file))["updates"]
        assert {each["package-ecosystem"] for each in updates} == {"github-actions", "docker"}
        assert updates[1]["ignore"][0]["dependency-name"] == "python"
    else:
        document = json.loads(project.text(file))
        assert not {"pip_requirements", "pep621"} & set(document["enabledManagers"])
        assert document["packageRules"][0]["matchPackageNames"] == ["python"]
    project.run("check-jsonschema", "--builtin-schema", f"vendor.{kind}", file)


def test_renovate_looks_where_the_pipelines_are(bake):
    project = bake(ci_provider="gitlab")
    patterns = json.loads(project.text("renovate.json"))["gitlabci"]["managerFilePatterns"]
    files = [name for name in project.files() if name.startswith(".gitlab") and "yml" in name]
    assert len(files) >= 3
    for name in files:
        assert any(re.search(pattern.strip("/"), name) for pattern in patterns), name


def test_the_workflows_have_the_rights_they_need(bake):
    project = bake(ci_provider="github")
    run("zizmor", "--offline", "--pedantic", "--quiet", ".github", cwd=project.path)
    for name in TARGETS:
        document = pipeline(project, "github", name)
        assert document["permissions"] == {}
        for job in document["jobs"].values():
            assert job["permissions"].keys() <= RIGHTS
        text = project.text(f".github/workflows/{name}.yml")
        assert "persist-credentials: false" in text
        for action in re.findall(r"uses: (\S+)", text):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)


def test_github_waits_for_the_jobs_of_change_by_their_names(bake):
    project = bake(ci_provider="github")
    names = [job["name"] for job in pipeline(project, "github", "change")["jobs"].values()]
    text = re.search(r"(?s)CHECKS = \((.*?)\n\)", project.text("ci/forge.py"))[1]
    assert re.findall(r'"(.*?)"', text) == names


def test_azure_builds_the_pipeline_that_is_there(bake):
    project = bake(ci_provider="azure")
    [name] = re.findall(r'(?m)^PIPELINE = "(.*)"$', project.text("ci/forge.py"))
    assert name in project.files()


def test_azure_puts_no_value_of_a_variable_into_a_reason(bake):
    [job] = pipeline(bake(ci_provider="azure"), "azure", "retrain")["jobs"]
    [step] = [step for step in job["steps"] if step.get("script") == "make retrain"]
    assert step["env"]["REASON"] == "${{ replace(parameters.alert.reason, '$(', '$ (') }}"


@PROVIDERS
def test_what_predictions_depend_on_has_an_owner(bake, provider):
    project = bake(ci_provider=provider, author_email="owner@example.org")
    if provider == "azure":
        owned = re.search(r"(?s)\nOWNED = \((.*?)\n\)", project.text("ci/forge.py"))[1]
        paths = re.findall(r'"/(.*?)"', owned)
    else:
        lines = project.text(f".{provider}/CODEOWNERS").splitlines()
        lines = [line.split() for line in lines if line and not line.startswith("#")]
        assert lines[0][0] == "*"
        assert {line[1] for line in lines} == {"owner@example.org"}
        paths = [line[0].removeprefix("/") for line in lines[1:]]
    files = project.files()
    for path in paths:
        assert any(name.startswith(path.rstrip("*")) for name in files), path
    package = f"src/{project.package}"
    folder = {"github": ".github/", "gitlab": ".gitlab/", "azure": ".azuredevops/"}[provider]
    wanted = {f"{package}/contract.py", f"{package}/model.py", "config/", "ci/", folder}
    assert wanted <= {path.rstrip("*") for path in paths}


@PROVIDERS
def test_each_item_of_the_checklist_names_what_shows_it(bake, provider):
    project = bake(ci_provider=provider)
    [name] = [name for name in FILES[provider] if name.lower().endswith(".md")]
    items = [line for line in project.text(name).splitlines() if line.startswith("- [ ] ")]
    assert 5 <= len(items) <= 9
    for item in items:
        assert "`" in item
        for target in re.findall(r"`make ([a-z-]+)`", item):
            assert re.search(rf"(?m)^{target}:", project.text("Makefile")), item
        for path in re.findall(r"`((?:docs|tests)/[\w/.]+)`", item):
            assert path in project.files(), item


@PROVIDERS
def test_the_page_names_every_file_and_an_alert(bake, provider):
    project = bake(ci_provider=provider)
    page = project.text("docs/governance.md")
    named = set(re.findall(r"(?m)^\| `([\w./]+/[\w./]+|renovate\.json)` \|", page))
    assert named == FILES[provider] | {"config/model.toml"}
    assert "curl --fail" in page


def test_no_package_can_be_named_as_a_program_of_ci(bake):
    stems = {
        path.stem
        for provider in CHOICES["ci_provider"]
        for path in (bake(ci_provider=provider, deployment_flavor="both").path / "ci").glob("*.py")
    }
    assert {"forge", "retrain"} <= stems <= pre_gen_project.OWN_FOLDERS


@pytest.mark.slow
@pytest.mark.xdist_group("template")
def test_a_newer_template_is_proposed(tmp_path):
    """Through cruft, from a changed copy of this template to a bare repository."""
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache")
    template = Project(shutil.copytree(TEMPLATE, tmp_path / "template", ignore=ignored))
    template.run("git", "init", "--quiet", "--initial-branch=main")
    commit(template)
    words = ("--no-input", "--default-config", "--output-dir", "out")
    run("cruft", "create", str(template.path), *words, cwd=tmp_path)
    [folder] = (tmp_path / "out").iterdir()
    project = Project(folder)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    commit(project)
    readme = template.path / "{{cookiecutter.project_slug}}" / "README.md"
    readme.write_text(readme.read_text("utf-8") + "\nNewer.\n", "utf-8")
    commit(template)
    run("git", "init", "--quiet", "--bare", "bare.git", cwd=tmp_path)
    project.run("git", "remote", "add", "origin", str(tmp_path / "bare.git"))
    # The branch is pushed before the request to GitHub, which fails here.
    said = renew_template(project, "none")
    assert "GET http://127.0.0.1:9/repos/acme/iris/pulls" in said, said
    told = run("git", "show", "renew/template", cwd=tmp_path / "bare.git")
    assert "+Newer." in told
    assert "__pycache__" not in told

    # What GitHub would refuse is not pushed.
    workflow = template.path / "{{cookiecutter.project_slug}}" / ".github/workflows/upkeep.yml"
    workflow.write_text(workflow.read_text("utf-8") + "# Newer.\n", "utf-8")
    commit(template)
    project.run("git", "reset", "--quiet", "--hard")
    assert "set the secret RENEW_TOKEN" in renew_template(project, "ghs_token")
    project.run("git", "reset", "--quiet", "--hard")
    assert "acme/iris/pulls" in renew_template(project, "github_pat_token")


def renew_template(project, token):
    """What the program says, with a token for a GitHub that is not there."""
    words = (f"GITHUB_TOKEN={token}", "GITHUB_API_URL=http://127.0.0.1:9", "NO_PROXY=127.0.0.1")
    words += ("GITHUB_REPOSITORY=acme/iris", f"PYTHONPATH={project.path / 'src'}")
    program = (sys.executable, "ci/renew.py", "template")
    return attempt("env", *words, *program, cwd=project.path).stdout
