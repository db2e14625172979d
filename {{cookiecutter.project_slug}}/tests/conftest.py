"""Shared fixtures: the training table, and a copy of this project in which training has run.

The tests adapt to contract.py, data.py and model.py. Commands run as separate processes in the
copy, so that nothing is written to this project's own folders.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.errors import ProjectError
from {{ cookiecutter.__package_name }}.models import stores
from {{ cookiecutter.__package_name }}.training.split import split_table, training_table

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = settings.PACKAGE
SECONDS = 300
MOST_ROWS = 1000
# A value that no feature of any contract accepts.
BAD = "not a value"

# The developer's own settings are ignored; a password that data.py needs stays in the environment.
try:
    settings.read_dotenv()
except ProjectError as error:
    pytest.exit(str(error), 2)
settings.DOTENV = "no .env"
for variable in list(os.environ):
    if variable.upper().startswith(settings.PREFIX) or variable in {"ENVIRONMENT", "SECRETS_DIR"}:
        del os.environ[variable]


def quick() -> dict[str, str]:
    """Settings for a quick training, with thresholds that every model passes."""
    training, far = settings.load().training, 1e9
    return {
        "APP__TRAINING__FOLDS": "2",
        "APP__TRAINING__SEARCHES": "1",
        "APP__TRAINING__MINIMUM": json.dumps(dict.fromkeys(training.minimum, -far)),
        "APP__TRAINING__MAXIMUM": json.dumps(dict.fromkeys(training.maximum, far)),
    }


class Project:
    """A copy of this project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("src", "config"):
            shutil.copytree(CHECKOUT / name, folder / name)
        (folder / "data").mkdir()
        (folder / "data" / "raw").symlink_to(CHECKOUT / "data" / "raw", target_is_directory=True)

    def start(self, *words: object, **chosen: object) -> subprocess.Popen:
        """``python WORDS``; ``chosen`` are variables, such as APP__TRAINING__FOLDS=2."""
        variables = {name: str(value) for name, value in chosen.items()}
{%- if cookiecutter.deployment_flavor != "api" %}
        variables["APP__BATCH__RAW"] = "false"  # the rows of the tests are prepared already
{%- endif %}
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder / "src")} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: object, **chosen: object) -> subprocess.CompletedProcess:
        """Run ``python -m <package> WORDS``."""
        process = self.start("-m", PACKAGE, *words, **chosen)
        out, err = process.communicate(timeout=SECONDS)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def succeed(self, *words: object, **chosen: object) -> str:
        """Run a command, which must not fail, and return its output."""
        done = self.run(*words, **chosen)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """The training table."""
    try:
        return training_table(settings.load())
    except ProjectError as error:
        pytest.exit(str(error), 2)


@pytest.fixture(scope="session")
def examples(table) -> pd.DataFrame:
    """The training table, or a sample of it if it is long."""
    return table.sample(min(len(table), MOST_ROWS), random_state=0).reset_index(drop=True)


@pytest.fixture(scope="session")
def rows(examples) -> pd.DataFrame:
    """The examples as a model receives them: without the target."""
    return examples[CONTRACT.needed]


@pytest.fixture(scope="session")
def split(examples):
    """The examples, split: numeric form, float32 of shape (rows, columns), and encoded target."""
    return split_table(examples, settings.load())


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Project:
    """A project in which `train` has run once; ``told`` is what it printed."""
    project = Project(tmp_path_factory.mktemp("trained") / "project")
    project.told = project.succeed("train", **quick())
    return project


@pytest.fixture(scope="session")
def champion(trained) -> Path:
    """A folder with a copy of the champion from the registry."""
    trained.succeed("copy", f"models:/{PACKAGE}@champion", "data/model")
    return trained.folder / "data" / "model"


@pytest.fixture(scope="session")
def loaded_model(champion):
    return stores.load_model(str(champion), settings.load())
