"""The paths, the rendered project, and an environment for each peer."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parents[1]
TINY = bool(os.environ.get("BENCH_TINY"))
BUILD = TEMPLATE / "build" / "bench" / "api"
BIN = Path(sys.executable).parent
PROJECT = BUILD / "iris-flower-prediction"
PACKAGE = "iris_flower_prediction"
MODELS = BUILD / "models"
SERVING, DEVELOPMENT = "serving", "dev"
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
Command = list[str | Path]


class Failed(Exception):  # noqa: N818 - a run failed; shown in the table
    """Why a server gets no figures."""


def environment(**settings: str) -> dict[str, str]:
    """Compiled modules are kept, and the telemetry of the peers is off."""
    skipped = ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "PYTHONPATH")
    kept = {key: value for key, value in os.environ.items() if key not in skipped}
    return kept | QUIET | settings


def call(*command: str | Path, cwd: Path = TEMPLATE, **settings: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment(**settings), text=True, capture_output=True
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: {done.stderr[-500:]}")
    return done.stdout


def python(name: str) -> Path:
    return BUILD / f"venv-{name}" / "bin" / "python"


def install(name: str, *what: str | Path) -> None:
    folder = BUILD / f"venv-{name}"
    if not folder.exists():
        call(BIN / "uv", "venv", "--quiet", "--python", sys.executable, folder)
    compiled = () if TINY else ("--compile-bytecode",)
    call(BIN / "uv", "pip", "install", "--quiet", *compiled, "--python", folder, *what)


def prepare() -> None:
    """Render the project, make its two environments, and fit the models."""
    for folder in (PROJECT, MODELS, BUILD / f"venv-{SERVING}"):
        shutil.rmtree(folder, ignore_errors=True)
    options = ("--no-input", "--default-config", "--output-dir", BUILD)
    call(BIN / "cookiecutter", TEMPLATE, *options, "deployment_flavor=api")
    install(SERVING, "--require-hashes", "--requirement", PROJECT / "requirements.txt")
    install(DEVELOPMENT, "--require-hashes", "--requirement", PROJECT / "requirements-dev.txt")
    install(DEVELOPMENT, "--no-deps", "--editable", PROJECT)
    call(python(DEVELOPMENT), HERE / "prepare.py", MODELS, cwd=PROJECT)


def same_versions() -> list[str]:
    """The versions that the estimators were fitted with, for the peers that load them."""
    frozen = call(BIN / "uv", "pip", "freeze", "--python", python(DEVELOPMENT))
    return re.findall(r"^(?:scikit-learn|numpy)==.*$", frozen, re.MULTILINE)


def size(name: str) -> float:
    """MB of an environment: what an image adds to its base."""
    files = python(name).parents[1].rglob("*")
    return sum(path.lstat().st_size for path in files if path.is_file()) / 1e6
