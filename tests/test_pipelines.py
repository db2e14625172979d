"""Do the pipelines of the three providers do the same, and go red where they should?"""

import json
import re
import subprocess
import sys

import pytest
import yaml
from conftest import CHOICES, ENGINE, Advisories, Project, clean_environment, run

FILES = {
    "github": ".github/workflows/change.yml",
    "gitlab": ".gitlab-ci.yml",
    "azure": "azure-pipelines.yml",
}
PROVIDERS = pytest.mark.parametrize("provider", CHOICES["ci_provider"])
ANSWERS = {"problem_type": "classification", "deployment_flavor": "batch"}
GROUP = pytest.mark.xdist_group("-".join(ANSWERS.values()))
# What a provider puts in place of its expressions, for a change to the main branch.
EXPRESSIONS = {
    "${{ github.base_ref || github.event.repository.default_branch }}": "main",
    "${{ matrix.kind }}": None,
}
# Nobody's: drawn for this test, in parts, so that no scan takes them for somebody's.
KEY_ID = "AKIA" + "QWB5PDKHX6" + "PYGPAN"
KEY = "0JxXujr4qqaaABvv" + "LOzAxzXMcU1vsHiQ" + "MaRiNTN9"
# A schema that has no inputs for this task yet.
UNKNOWN_TASK = "PublishCodeCoverageResults@2"


def pipeline(project, provider):
    return yaml.safe_load(project.text(FILES[provider]))


def scripts(document, provider):
    """(job, script, its variables) of a green pipeline, in order, for each kind of a matrix."""
    if provider == "gitlab":
        for job in ("checks", "tests", "model"):
            kinds = document[job].get("parallel", {}).get("matrix", [{"KIND": [None]}])[0]["KIND"]
            for kind in kinds:
                for line in document[job]["script"]:
                    yield job, line, {"KIND": kind} if kind else {}
        return
    jobs = document["jobs"]
    for name, job in jobs.items() if provider == "github" else [(j["job"], j) for j in jobs]:
        matrix = job.get("strategy", {}).get("matrix", {})
        kinds = matrix.get("kind") or list(matrix) or [None]
        for kind in kinds:
            for step in job["steps"]:
                if step.get("if") == "failure()":
                    continue
                if script := step.get("run") or step.get("script"):
                    known = {key: filled(value, kind) for key, value in step.get("env", {}).items()}
                    yield name, script, known | ({"KIND": kind} if kind else {})


def filled(value, kind):
    for expression, text in EXPRESSIONS.items():
        value = value.replace(expression, text or kind or "")
    assert "${{" not in value, value
    return value


def targets(project, provider):
    """(job, target of make) in the order of the pipeline."""
    for job, script, variables in scripts(pipeline(project, provider), provider):
        if found := re.search(r'\bmake "?([a-z-]+(?:\$KIND)?)', script):
            yield job, found[1].replace("$KIND", variables.get("KIND", ""))


@PROVIDERS
def test_only_the_file_of_the_provider_is_there(bake, provider):
    project = bake(ci_provider=provider)
    assert [name for name in FILES if FILES[name] in project.files()] == [provider]


@PROVIDERS
def test_each_provider_runs_what_make_ci_runs(bake, provider):
    project = bake(ci_provider=provider)
    [line] = re.findall(r"(?m)^ci: (.*?) ##", project.text("Makefile"))
    found = list(targets(project, provider))
    assert sorted(target for _, target in found) == sorted(line.split())
    assert found == list(targets(bake(ci_provider="github"), "github"))


@PROVIDERS
def test_the_page_tells_the_job_of_every_target(bake, provider):
    project = bake(ci_provider=provider)
    rows = re.findall(r"(?m)^\| `make ([a-z-]+)` \|.*\| (\w+) \|$", project.text("docs/ci.md"))
    assert sorted((job, target) for target, job in rows) == sorted(targets(project, provider))


@PROVIDERS
def test_the_file_is_valid(bake, provider, tmp_path):
    project, file = bake(ci_provider=provider), tmp_path / "pipeline.yml"
    document = pipeline(project, provider)
    schema = {"github": "github-workflows", "gitlab": "gitlab-ci", "azure": "azure-pipelines"}
    if provider == "azure":
        for job in document["jobs"]:
            job["steps"] = [step for step in job["steps"] if step.get("task") != UNKNOWN_TASK]
    # YAML 1.1 reads the key `on` as a truth.
    text = project.text(FILES[provider]) if provider == "github" else yaml.safe_dump(document)
    file.write_text(text, "utf-8")
    options = ("--regex-variant", "nonunicode") if provider == "azure" else ()
    words = ("--builtin-schema", f"vendor.{schema[provider]}", *options)
    run("check-jsonschema", *words, str(file), cwd=tmp_path)


def test_the_workflow_gives_no_rights_away(bake):
    project = bake(ci_provider="github")
    run("zizmor", "--offline", "--pedantic", "--quiet", ".github/workflows", cwd=project.path)
    for job in pipeline(project, "github")["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
    for action in re.findall(r"uses: (\S+)", project.text(FILES["github"])):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)


@PROVIDERS
def test_no_script_takes_a_name_for_a_command(bake, provider):
    """Names of branches and the like come by the environment, in double quotes."""
    for _, script, _ in scripts(pipeline(bake(ci_provider=provider), provider), provider):
        assert "$(" not in script
        assert "${{" not in script
        assert "$" not in re.sub(r'"[^"]*"', "", script), script


@pytest.fixture
def checkout(install, tmp_path):
    """A fresh checkout of a change, whose main branch is on a server."""
    project = install(**ANSWERS)
    run("git", "clone", "--quiet", str(project.path), "checkout", cwd=tmp_path)
    return Project(tmp_path / "checkout")


def execute(project, script, audit, **variables):
    """The finished process of one script, as a runner starts it."""
    more = {"AUDIT": audit, "ENGINE": ENGINE, "IMAGE": "iris-change", "CI": "true", **variables}
    more |= {"GITHUB_STEP_SUMMARY": str(project.path / "summary.md"), "PYTHON": sys.executable}
    # Trained faster than anybody would: how good it is, is asked elsewhere.
    more |= {"TRAINING__SEARCHES": "1"}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=project.path,
        env=clean_environment() | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


@pytest.mark.slow
@GROUP
@pytest.mark.skipif(not ENGINE, reason="no container engine: apt-get install podman")
def test_the_pipeline_passes_in_a_fresh_checkout(bake, checkout, audit):
    """All steps of GitHub's, in order; Azure's scripts are the same but for the summary."""
    ours = list(scripts(pipeline(checkout, "github"), "github"))
    theirs = list(scripts(pipeline(bake(ci_provider="azure"), "azure"), "azure"))
    assert [each for each in theirs if "make" in each[1]] == [
        each for each in ours if "make" in each[1]
    ]
    for job, script, variables in ours:
        done = execute(checkout, script, audit, **variables)
        assert done.returncode == 0, f"{job}: {script}\n{done.stdout[-5000:]}"
    reports = {path.name for path in (checkout.path / "build/reports").iterdir()}
    kinds = ("unit", "integration")
    assert {f"{kind}.xml" for kind in kinds} < reports
    assert {f"{kind}-coverage.xml" for kind in kinds} < reports
    assert "## Model: promoted" in checkout.text("summary.md")
    assert "build/reports/model.md" in theirs[-1][1]


@pytest.mark.slow
@GROUP
def test_what_is_broken_on_purpose_is_red_at_its_stage(checkout, audit):
    package = checkout.path / "src" / "iris_flower_prediction"

    def red(target, **variables):
        done = execute(checkout, f"make {target}", audit, **variables)
        assert done.returncode != 0, done.stdout
        return done.stdout

    def commit():
        identity = ("-c", "user.name=A team", "-c", "user.email=team@example.com")
        checkout.run("git", "add", "--all")
        checkout.run("git", *identity, "commit", "--quiet", "--message", "Broken")

    def green(target):
        done = execute(checkout, f"make {target}", audit)
        assert done.returncode == 0, done.stdout

    for target in ("lint", "compatibility", "audit", "secrets"):
        green(target)
    Advisories.vulnerable = "numpy"
    try:
        assert "OSV-2026-1" in red("audit")
    finally:
        Advisories.vulnerable = ""
    test = checkout.path / "tests/unit/test_broken.py"
    test.write_text("def test_broken():\n    assert False\n", "utf-8")
    only = {"REPORTS": "build/reports", "PYTEST_ADDOPTS": "-k broken"}
    assert "1 failed" in red("test-unit", **only)
    done = execute(checkout, "make annotate", audit)
    assert "::error file=tests/unit/test_broken.py,line=2,title=test_broken::" in done.stdout
    assert "B011" in red("lint")
    test.unlink()
    never = json.dumps({"f1_macro": 1.5})
    assert "below the minimum 1.5" in red("gate", TRAINING__MINIMUM=never)
    contract = package / "contract.py"
    contract.write_text(contract.read_text("utf-8").replace("maximum=15", "maximum=7"), "utf-8")
    assert "breaking: column PETAL_LENGTH has a lower maximum" in red("compatibility")
    checkout.run("git", "checkout", "--quiet", ".")
    leak = checkout.path / "src" / "leak.py"
    leak.write_text(f'aws_access_key_id = "{KEY_ID}"\naws_secret_access_key = "{KEY}"\n', "utf-8")
    commit()
    leak.unlink()
    commit()
    said = red("secrets")
    assert KEY not in said
    assert "leak.py" in said
