"""Do the images of a rendered project build, hold only what they need, and run without rights?"""

import json
import re
import shutil
import sys

import pytest
from conftest import ENGINE, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("classification-batch")]

if not ENGINE:
    pytestmark.append(pytest.mark.skip(reason="no container engine: apt-get install podman"))
# As a cautious operator runs it: no network, no rights, and only mounted folders are writable.
LOCKED_DOWN = ("--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL")
PREDICTIONS = """
import sys
import pyarrow.parquet as parquet
print(parquet.read_table(sys.argv[1])["prediction"].to_pylist())
"""
WITHOUT_EXPORT = """
from {package} import cli
from {package}.models import export
export._to_onnx = None
assert cli.main(["train"]) == 0
"""
BOUNDED = ("--memory=512m", "--pids-limit=64")


@pytest.fixture(scope="module")
def project(install):
    project = install(problem_type="classification", deployment_flavor="batch")
    project.run("make", "image", "train", f"ENGINE={ENGINE}", f"PYTHON={sys.executable}")
    return project


@pytest.fixture
def inside(project, tmp_path):
    """Runs the image with a model and data of the project mounted; returns what it prints."""
    in_project = (str(project.path / ".venv/bin/python"), "-m", project.package)
    champion = f"models:/{project.package}@champion"
    run(*in_project, "copy", champion, str(tmp_path / "model"), cwd=project.path)
    data = writable_data(project, tmp_path)
    for path in tmp_path.rglob("model*"):
        path.chmod(0o777)
    mounts = ("-v", f"{tmp_path}/model:/model:ro", "-v", f"{data}:/app/data")

    def inside(*arguments, image=project.path.name, options=BOUNDED):
        return run(ENGINE, "run", *LOCKED_DOWN, *options, *mounts, image, *arguments, cwd=tmp_path)

    return inside


def writable_data(project, folder):
    """A copy of the project's data, for the image's user."""
    data = shutil.copytree(project.path / "data", folder / "data")
    for path in (data, *data.rglob("*")):
        path.chmod(0o777)
    return data


def test_the_dockerfile_is_clean(project):
    run("hadolint", "Dockerfile", cwd=project.path)


def test_the_image_scores_as_the_project_does(project, inside, tmp_path):
    score = ("score", "--model", "/model", "--run-id", "image")
    printed = inside(*score, "--show", "3")
    assert "150 predicted, 0 rejected" in printed
    here = str(project.path / ".venv/bin/python")
    output = tmp_path / "here.csv"
    arguments = ("score", "--model", str(tmp_path / "model"), "--output", str(output))
    run(here, "-m", project.package, *arguments, cwd=project.path)
    found = run(here, "-c", PREDICTIONS, str(tmp_path / "data/predictions/image"), cwd=tmp_path)
    lines = output.read_text("utf-8").splitlines()[1:]
    assert json.loads(found) == [int(line.split(",")[2]) for line in lines]


def test_the_image_holds_no_rights_no_compiler_and_no_training_packages(inside):
    shell = (*BOUNDED, "--entrypoint=sh")
    assert inside("-c", "id -u", options=shell).strip() == "10001"
    tools = "for tool in gcc cc make pip; do command -v $tool; done; true"
    assert inside("-c", tools, options=shell).split() in ([], ["/usr/local/bin/pip"])
    packages = inside("-c", "ls /opt/venv/lib/python*/site-packages", options=shell).split()
    assert "onnxruntime" in packages
    assert not {"sklearn", "mlflow", "pandas", "matplotlib", "pytest", "pip"} & set(packages)


def test_the_image_says_what_it_is(project):
    printed = run(ENGINE, "image", "inspect", project.path.name, cwd=project.path)
    labels = json.loads(printed)[0]["Config"]["Labels"]
    assert "iris" in labels["org.opencontainers.image.description"]
    assert "@" in labels["org.opencontainers.image.authors"]


def test_the_image_refuses_a_registry_it_cannot_read_in_one_sentence(inside):
    with pytest.raises(AssertionError, match="exited 2") as refused:
        inside("score")
    assert re.search(r"error: .*need mlflow", str(refused.value))
    assert "Traceback" not in str(refused.value)


def test_an_image_with_its_model_needs_neither_registry_nor_network(project, tmp_path):
    champion, name = f"MODEL=models:/{project.package}@champion", "iris-with-its-model"
    project.run("make", "image", champion, f"IMAGE={name}", f"ENGINE={ENGINE}")
    data = writable_data(project, tmp_path)
    start = (ENGINE, "run", *LOCKED_DOWN, *BOUNDED, "-v", f"{data}:/app/data", name)
    assert "150 predicted, 0 rejected" in run(*start, "score", "--run-id", "baked", cwd=tmp_path)
    # The output names the model's version in the registry.
    assert "version 1" in run(*start, "score", "--run-id", "again", cwd=tmp_path)


def test_the_training_image_trains_and_scores(project, inside):
    build = (ENGINE, "build", "--target", "train", "--tag", f"{project.path.name}-train", ".")
    run(*build, cwd=project.path)
    registry = ("-e", "APP__MODELS__TRACKING_URI=sqlite:///data/mlflow.db")
    registry += ("-e", "APP__MODELS__ARTIFACTS=project:data/mlartifacts")
    train = {"image": f"{project.path.name}-train", "options": registry}
    assert "Promoted: there is no champion yet" in inside("train", **train)
    assert "150 predicted, 0 rejected" in inside("score", **train)


def test_a_model_that_could_not_be_exported_has_what_it_needs_in_its_image(project, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(WITHOUT_EXPORT.format(package=project.package), "utf-8")
    apart = (
        "env",
        "APP__MODELS__TRACKING_URI=sqlite:///native.db",
        "APP__MODELS__ARTIFACTS=project:native",
    )
    project.run(*apart, str(project.path / ".venv/bin/python"), str(script))
    champion, name = f"MODEL=models:/{project.package}@champion", "iris-without-export"
    project.run(*apart, "make", "image", champion, f"IMAGE={name}", f"ENGINE={ENGINE}")
    data = writable_data(project, tmp_path)
    start = (ENGINE, "run", *LOCKED_DOWN, "--memory=1g", "-v", f"{data}:/app/data", name)
    assert "150 predicted, 0 rejected" in run(*start, "score", "--run-id", "native", cwd=tmp_path)
