"""A project whose predictions show what was read from each column: see cases/mirror.

It is used from outside only: by its commands, its files and its API.
"""

import csv
import itertools
import os
import shutil
from collections import defaultdict
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from api_process import Api
from conftest import PACKAGE, QUICK, Project

FILES = Path(__file__).parent / "cases" / "mirror"
# Cells of a row whose numeric form is 0 in every column, in the order of the contract.
ZERO = {
    "PRICE": "0",
    "AMOUNT": "0",
    "AGE": "0",
    "COUNT": "0",
    "MEMBER": "false",
    "PAID": "false",
    "CITY": "Malmö",
    "GRADE": "20",
    "SINCE": "1970-01-01",
    "UNTIL": "1970-01-01",
}
# The numeric form of a missing value, as cases/mirror/model.py fills it in.
MISSING = -7.0


def replace_user_files(project: Project, files: Path, training: str) -> None:
    """Put other contract.py, data.py and model.py and another section [training] into a project."""
    for file in files.glob("*.py"):
        shutil.copy(file, project.folder / "src" / PACKAGE / file.name)
    config = project.folder / "config" / "nonprod.toml"
    before, mark, rest = config.read_text("utf-8").partition("[training]\n")
    after = rest[rest.index("\n[") :]
    config.write_text(f"{before}{mark}{training}\n{after}", "utf-8")


def mirror_in(folder: Path) -> Project:
    """The mirror, not trained yet."""
    project = Project(folder)
    replace_user_files(project, FILES, 'metric = "rmse"\nmaximum = { rmse = 0.01 }')
    return project


def model_of(project: Project) -> Path:
    """Train; returns the folder of the model, which loads faster than from the registry."""
    project.training = project.run("train", **QUICK)
    assert project.training.returncode == 0, project.training.stdout + project.training.stderr
    (metadata,) = project.folder.glob("mlartifacts/**/metadata.json")
    return metadata.parent


def write_csv(path: Path, header: list[str], lines: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


class Outcome:
    """What ``score`` has made of its rows, by key: a prediction, or violations."""

    def __init__(self, done: CompletedProcess, predictions: Path, rejected: Path | None) -> None:
        self.done, self.refused = done, defaultdict(list)
        assert done.returncode == 0, done.stdout + done.stderr
        with predictions.open(encoding="utf-8", newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.predictions = {row["ID"]: float(row["prediction"]) for row in self.rows}
        if rejected:
            with rejected.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    self.refused[row["ID"]].append(row)

    def of(self, key: str) -> float | tuple[str, str]:
        """The prediction, or the column and the reason of the only violation."""
        if key in self.predictions:
            assert key not in self.refused
            return self.predictions[key]
        (found,) = self.refused[key]
        return found["column"], found["reason"]


class Mirror:
    """The trained mirror."""

    def __init__(self, folder: Path) -> None:
        self.project = mirror_in(folder)
        self.folder, self.model = self.project.folder, model_of(self.project)
        self._runs = itertools.count()

    def run_score(self, source: Path | str, *words: object, **settings) -> CompletedProcess:
        settings = {"APP__BATCH__MAX_REJECTED_SHARE": 1} | settings
        return self.project.run(
            "score", "--model", self.model, "--input", source, *words, **settings
        )

    def score(self, source: Path | str) -> Outcome:
        run = f"mirror-{os.getpid()}-{next(self._runs)}"
        output = self.folder / f"{run}.csv"
        done = self.run_score(source, "--output", output, "--run-id", run)
        return Outcome(done, output, self.rejected(run))

    def rejected(self, run: str) -> Path | None:
        """The rejected rows of a run to an output of its own; None if there are none."""
        return next((self.folder / "data/rejected").glob(f"{run}_*.csv"), None)

    def serve(self) -> Api:
        return Api(self.project, "--model", self.model).wait_until_ready()


@pytest.fixture(scope="session")
def mirror(tmp_path_factory):
    mirror = Mirror(tmp_path_factory.mktemp("mirror") / "project")
    yield mirror
    mirror.project.stop()
