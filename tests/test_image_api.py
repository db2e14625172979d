"""Do the images that serve build, run without rights, and answer as the project does?"""

import json
import os
import signal
import sys

import pytest
from conftest import ENGINE, attempt, examples, free_port, in_environment, predict, run, wait_for

pytestmark = [pytest.mark.slow]
if not ENGINE:
    pytestmark.append(pytest.mark.skip(reason="no container engine: apt-get install podman"))
SERVING = pytest.mark.xdist_group("classification-api")
# Not the project's name, which the batch job's image has in another test.
IMAGE = "iris-served"
LOCKED_DOWN = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--memory=512m", "--pids-limit=64")


@pytest.fixture(scope="module")
def project(install):
    project = install(problem_type="classification", deployment_flavor="api")
    project.run("make", "train", f"PYTHON={sys.executable}")
    make_image(project, IMAGE)
    return project


def make_image(project, name):
    project.run("make", "image", f"IMAGE={name}", f"ENGINE={ENGINE}", f"PYTHON={sys.executable}")


@pytest.fixture(scope="module")
def serving(project, tmp_path_factory):
    """The image at work, as a cautious operator runs it; its name, port and data folder."""
    folder, port, name = tmp_path_factory.mktemp("served"), free_port(), f"served-{os.getpid()}"
    champion = f"models:/{project.package}@champion"
    in_environment(project, "python", "-m", project.package, "copy", champion, folder / "model")
    (folder / "data").mkdir()
    for path in (folder / "data", *folder.rglob("model*")):
        path.chmod(0o777)
    mounts = ("-v", f"{folder}/model:/app/model:ro", "-v", f"{folder}/data:/app/data")
    where = ("--network=host", "-e", "HOST=127.0.0.1", "-e", f"PORT={port}")
    start = (ENGINE, "run", "--detach", "--name", name, *LOCKED_DOWN, *mounts, *where)
    run(*start, IMAGE, cwd=folder)
    try:
        wait_for(lambda: healthy(name), 300, lambda: logs(name))
        yield name, port, folder / "data"
    finally:
        attempt(ENGINE, "rm", "--force", name, cwd=folder)


def healthy(name):
    if ENGINE == "podman":
        # Without systemd, podman does not run the health check by itself.
        return attempt(ENGINE, "healthcheck", "run", name, cwd="/").returncode == 0
    status = run(ENGINE, "inspect", "--format", "{{.State.Health.Status}}", name, cwd="/")
    return status.strip() == "healthy"


def logs(name):
    return attempt(ENGINE, "logs", name, cwd="/").stdout


def configuration(image):
    return json.loads(run(ENGINE, "image", "inspect", image, cwd="/"))[0]


@SERVING
def test_the_dockerfile_is_clean(project):
    run("hadolint", "Dockerfile", cwd=project.path)


@SERVING
def test_the_image_answers_as_the_project_does(project, serving):
    _, port, data = serving
    body, expected = examples(project)
    assert predict(port, body) == expected
    # What it answered is kept in the mounted folder.
    wait_for(lambda: list(data.rglob("*.db")), 120, lambda: list(data.rglob("*")))


@SERVING
def test_the_image_holds_no_rights_no_compiler_and_no_training_packages(serving):
    name, _, _ = serving

    def inside(command):
        return run(ENGINE, "exec", name, "sh", "-c", command, cwd="/")

    assert inside("id -u").strip() == "10001"
    tools = "for tool in gcc cc make pip; do command -v $tool; done; true"
    assert inside(tools).split() in ([], ["/usr/local/bin/pip"])
    packages = set(inside("ls /opt/venv/lib/python*/site-packages").split())
    assert {"fastapi", "onnxruntime"} <= packages
    training = {"sklearn", "mlflow", "pandas", "pyarrow", "matplotlib"}
    assert not packages & {*training, "pytest", "httpx2", "pip"}


@SERVING
def test_the_image_checks_its_settings_without_what_only_training_has(project, serving):
    command = ("exec", serving[0], "python", "-m", project.package, "settings", "check")
    done = attempt(ENGINE, *command, cwd="/")
    assert done.returncode == 0, done.stdout
    assert "Nothing was found." in done.stdout


@SERVING
@pytest.mark.usefixtures("project")
def test_the_image_says_what_it_is():
    found = configuration(IMAGE)["Config"]
    assert "iris" in found["Labels"]["org.opencontainers.image.description"]
    assert found["Cmd"] == ["serve"]
    assert list(found["ExposedPorts"]) == ["8000/tcp"]


ASK = """
import json, sys, urllib.request
url, kind = "http://127.0.0.1:8000/predict", {"Content-Type": "application/json"}
request = urllib.request.Request(url, sys.argv[1].encode(), kind)
print(urllib.request.urlopen(request, timeout=30).read().decode())
"""


@SERVING
def test_an_image_with_its_model_needs_neither_registry_nor_network(project, tmp_path):
    champion, image = f"MODEL=models:/{project.package}@champion", "iris-with-its-model-served"
    project.run("make", "image", champion, f"IMAGE={image}", f"ENGINE={ENGINE}")
    assert "APP__MODELS__URI=/app/model" in configuration(image)["Config"]["Env"]
    body, expected = examples(project)
    name = f"baked-{os.getpid()}"
    start = (ENGINE, "run", "--detach", "--name", name, *LOCKED_DOWN, "--network=none")
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    run(*start, "-v", f"{data}:/app/data", image, cwd=tmp_path)
    try:
        wait_for(lambda: healthy(name), 300, lambda: logs(name))
        ask = (ENGINE, "exec", name, "python", "-c", ASK, json.dumps(body))
        assert json.loads(run(*ask, cwd="/"))["predictions"] == expected
    finally:
        attempt(ENGINE, "rm", "--force", name, cwd="/")


@SERVING
def test_the_image_stops_when_told(serving):
    name, _, _ = serving
    run(ENGINE, "stop", "--time", "30", name, cwd="/")
    code = run(ENGINE, "inspect", "--format", "{{.State.ExitCode}}", name, cwd="/")
    assert code.strip() in ("0", str(128 + signal.SIGTERM)), logs(name)


@pytest.mark.xdist_group("classification-both")
def test_both_images_hold_the_same_files(install):
    project = install(problem_type="classification", deployment_flavor="both")
    name = "iris-both"
    make_image(project, name)
    run("hadolint", "Dockerfile", cwd=project.path)
    serve, score = configuration(name), configuration(f"{name}-score")
    assert serve["RootFS"]["Layers"][: len(score["RootFS"]["Layers"])] == score["RootFS"]["Layers"]
    assert (serve["Config"]["Cmd"], score["Config"]["Cmd"]) == (["serve"], ["score"])
    assert "APP__MODELS__URI=/app/model" in serve["Config"]["Env"]
    assert not score["Config"].get("ExposedPorts")
    offered = run(ENGINE, "run", "--rm", "--network=none", f"{name}-score", "--help", cwd="/")
    assert "score" in offered
    assert "serve" in offered
