"""Do the pipelines of the three providers do the same, and go red where they should?"""

import json
import re
import subprocess
import sys

import pytest
import yaml
from conftest import CHOICES, ENGINE, Advisories, Project, clean_environment, run

# The file of each stage.
FILES = {
    "github": ".github/workflows/{}.yml",
    "gitlab": ".gitlab/ci/{}.yml",
    "azure": ".azuredevops/{}.yml",
}
STAGES = ("change", "nonprod", "prod", "rollback")
# Not compared with page and Makefile, because a provider may have its own way to log in.
OWN_WAYS = {"login", "digest"}
CHANGE_JOBS = ("checks", "tests", "model")
PROVIDERS = pytest.mark.parametrize("provider", CHOICES["ci_provider"])
EACH_STAGE = pytest.mark.parametrize("stage", STAGES)
ANSWERS = {"problem_type": "classification", "deployment_flavor": "batch"}
GROUP = pytest.mark.xdist_group("-".join(ANSWERS.values()))
# The values of a provider's expressions, for a change to the main branch.
EXPRESSIONS = {
    "${{ github.base_ref || github.event.repository.default_branch }}": "main",
    "${{ github.actor }}": "somebody",
    "${{ github.token }}": "a token",
    "$(System.AccessToken)": "a token",
    "${{ vars.APP__MODELS__ARTIFACTS }}": "",
    "${{ secrets.APP__MODELS__TRACKING_URI }}": "",
}
# Invented keys, in parts, so that no scan of this repository reports them.
KEY_ID = "AKIA" + "QWB5PDKHX6" + "PYGPAN"
KEY = "0JxXujr4qqaaABvv" + "LOzAxzXMcU1vsHiQ" + "MaRiNTN9"
# Schemas that have no inputs for this task yet.
UNKNOWN_TASK = "PublishCodeCoverageResults@2"
# The largest rights of each stage's jobs, in addition to reading the code.
RIGHTS = {
    "change": set(),
    "nonprod": {"attestations", "id-token", "packages"},
    "prod": {"contents", "id-token", "packages"},
    "rollback": {"id-token", "packages"},
}


def file_of(provider, stage):
    if provider == "gitlab" and stage == "rollback":
        stage = "release"
    return FILES[provider].format("release" if stage in ("nonprod", "prod") else stage)


def pipeline(project, provider, stage):
    return yaml.safe_load(project.text(file_of(provider, stage)))


def jobs(project, provider, stage):
    """(name, job) of a stage, in order."""
    document = pipeline(project, provider, stage)
    if provider == "azure" and stage != "change":
        [found] = [each for each in document["stages"] if each["stage"] == stage]
        [job] = found["jobs"]
        return [(stage, job | job["strategy"]["runOnce"]["deploy"])]
    if provider == "azure":
        return [(job["job"], job) for job in document["jobs"]]
    known = document["jobs"] if provider == "github" else document
    return [(name, known[name]) for name in (CHANGE_JOBS if stage == "change" else (stage,))]


def scripts(project, provider, stage):
    """(job, script, its variables) of a green pipeline, in order."""
    for name, job in jobs(project, provider, stage):
        if provider == "gitlab":
            yield from ((name, line, {}) for line in job["script"])
            continue
        for step in job["steps"]:
            script = step.get("run") or step.get("script")
            if script and step.get("if") != "failure()":
                given = step.get("env", {}).items()
                yield name, script, {key: filled(value) for key, value in given}


def filled(value):
    for expression, text in EXPRESSIONS.items():
        value = value.replace(expression, text)
    assert "${{" not in value, value
    return value


def targets(project, provider, stage):
    """(job, target of make) in the order of the pipeline."""
    for job, script, _ in scripts(project, provider, stage):
        found = re.search(r"\bmake ([a-z-]+)", script)
        if found and found[1] not in OWN_WAYS:
            yield job, found[1]


@PROVIDERS
def test_only_the_files_of_the_provider_are_there(bake, provider):
    project = bake(ci_provider=provider)
    assert {
        name for name in FILES for stage in STAGES if file_of(name, stage) in project.files()
    } == {provider}


@PROVIDERS
@EACH_STAGE
def test_each_provider_runs_what_make_runs(bake, provider, stage):
    project = bake(ci_provider=provider)
    found = list(targets(project, provider, stage))
    assert found == list(targets(bake(ci_provider="github"), "github", stage))
    if stage == "rollback":
        assert found == [("rollback", "rollback")]
        return
    target = {"change": "ci"}.get(stage, stage)
    [line] = re.findall(rf"(?m)^{target}: (.*?) ##", project.text("Makefile"))
    assert sorted(target for _, target in found) == sorted(line.split())


@PROVIDERS
def test_each_provider_logs_in_where_images_are_kept(bake, provider):
    project = bake(ci_provider=provider)
    for stage in STAGES[1:]:
        for _, job in jobs(project, provider, stage):
            if provider == "azure":
                tasks = [step.get("task") for step in job["steps"]]
                assert "Docker@2" in tasks
            else:
                lines = [script for _, script, _ in scripts(project, provider, stage)]
                assert lines[0] == "make login"


@PROVIDERS
def test_nothing_goes_to_production_unless_people_approve(bake, provider):
    """An environment that is not protected yet would let everything through."""
    project = bake(ci_provider=provider)
    [(_, job)] = jobs(project, provider, "prod")
    assert job["environment"] == "prod"
    if provider == "gitlab":
        [rule] = job["rules"]
        assert '$RELEASE_TO_PROD == "true"' in rule["if"]
        assert rule["when"] == "manual"
    elif provider == "github":
        assert job["if"] == "vars.RELEASE_TO_PROD == 'true'"
        assert job["needs"] == "nonprod"
    else:
        [stage] = [
            each
            for each in pipeline(project, provider, "prod")["stages"]
            if each["stage"] == "prod"
        ]
        assert stage["condition"] == "and(succeeded(), eq(variables['RELEASE_TO_PROD'], 'true'))"
        assert stage["dependsOn"] == "nonprod"


@PROVIDERS
def test_the_page_tells_the_job_of_every_target(bake, provider):
    project = bake(ci_provider=provider)
    rows = re.findall(r"(?m)^\| `make ([a-z-]+)` \|.*\| (\w+) \|$", project.text("docs/ci.md"))
    found = [pair for stage in STAGES for pair in targets(project, provider, stage)]
    assert sorted((job, target) for target, job in rows) == sorted(found)


@PROVIDERS
def test_the_files_are_valid(bake, provider, tmp_path):
    project, file = bake(ci_provider=provider), tmp_path / "pipeline.yml"
    schema = {"github": "github-workflows", "gitlab": "gitlab-ci", "azure": "azure-pipelines"}
    options = ("--regex-variant", "nonunicode") if provider == "azure" else ()
    words = ("--builtin-schema", f"vendor.{schema[provider]}", *options)
    named = {file_of(provider, stage) for stage in STAGES}
    for name in named | ({".gitlab-ci.yml"} if provider == "gitlab" else set()):
        document = yaml.safe_load(project.text(name))
        if provider == "azure":
            for job in document.get("jobs", ()):
                job["steps"] = [each for each in job["steps"] if each.get("task") != UNKNOWN_TASK]
        # YAML 1.1 reads the key `on` as True.
        text = project.text(name) if provider == "github" else yaml.safe_dump(document)
        file.write_text(text, "utf-8")
        run("check-jsonschema", *words, str(file), cwd=tmp_path)


def test_the_workflows_give_no_rights_away(bake):
    project = bake(ci_provider="github")
    run("zizmor", "--offline", "--pedantic", "--quiet", ".github/workflows", cwd=project.path)
    for stage in STAGES:
        assert pipeline(project, "github", stage)["permissions"] == {}
        for _, job in jobs(project, "github", stage):
            writes = {name for name, right in job["permissions"].items() if right == "write"}
            assert writes == RIGHTS[stage]
        for action in re.findall(r"uses: (\S+)", project.text(file_of("github", stage))):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)


@PROVIDERS
@EACH_STAGE
def test_no_script_takes_a_name_for_a_command(bake, provider, stage):
    """Names of branches and similar texts are environment variables, in double quotes."""
    for _, script, _ in scripts(bake(ci_provider=provider), provider, stage):
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
    # Less training, to save time; other tests check the quality of the model.
    more |= {"APP__TRAINING__SEARCHES": "1"}
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
    ours = list(scripts(checkout, "github", "change"))
    theirs = list(scripts(bake(ci_provider="azure"), "azure", "change"))
    assert [each for each in theirs if "make" in each[1]] == [
        each for each in ours if "make" in each[1]
    ]
    for job, script, variables in ours:
        done = execute(checkout, script, audit, **variables)
        assert done.returncode == 0, f"{job}: {script}\n{done.stdout[-5000:]}"
    reports = {path.name for path in (checkout.path / "build/reports").iterdir()}
    assert {"tests.xml", "coverage.xml"} < reports
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
    assert "1 failed" in red("test", **only)
    done = execute(checkout, "make annotate", audit)
    assert "::error file=tests/unit/test_broken.py,line=2,title=test_broken::" in done.stdout
    assert "B011" in red("lint")
    test.unlink()
    never = json.dumps({"f1_macro": 1.5})
    assert "below training.minimum, 1.5" in red("gate", APP__TRAINING__MINIMUM=never)
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
