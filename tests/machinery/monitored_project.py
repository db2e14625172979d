"""A trained project that has scored the example, and whose commands run in this process."""

import json
import shutil
import sqlite3
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from conftest import use

from iris_flower_prediction import cli
from iris_flower_prediction.contract import CONTRACT


def moved(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{CONTRACT.names[0]: (table[CONTRACT.names[0]] + 3).clip(upper=14)})


class Monitored:
    """A trained project whose commands run in this process: ``told`` is what one printed."""

    def __init__(self, folder: Path, monkeypatch, capsys) -> None:
        self.folder, self._patch, self._capsys = folder, monkeypatch, capsys

    def done(self, *words: object, **chosen: object) -> tuple[int, str, str]:
        with self._patch.context() as patch:
            for name, value in chosen.items():
                patch.setenv(name, str(value))
            code = cli.main([str(word) for word in words])
        return code, *self._capsys.readouterr()

    def told(self, *words: object, code: int = 0, **chosen: object) -> str:
        ended, out, err = self.done(*words, **chosen)
        assert ended == code, out + err
        return out

    def problem(self, *words: object) -> str:
        code, _, err = self.done(*words)
        assert code == 2
        assert err.startswith("error: ") and err.count("\n") == 1, err
        return err

    def score(self, table: pd.DataFrame, run_id: str, **chosen: object) -> None:
        file = self.folder / "data" / "raw" / f"{run_id}.csv"
        table.to_csv(file, index=False)
        self.told("score", "--input", file, "--run-id", run_id, **chosen)

    def label(self, table: pd.DataFrame) -> str:
        file = self.folder / "data" / "labels.csv"
        table.to_csv(file, index=False)
        return self.told("labels", "import", file)

    def query(self, text: str) -> list[tuple]:
        with sqlite3.connect(self.folder / "data" / "project.db") as database:
            return database.execute(text).fetchall()

    def metric(self, name: str, subject: str = "") -> float:
        """The value in the window of batch predictions that ends last."""
        found = self.query(
            f"SELECT value FROM model_metrics WHERE name = '{name}' AND subject = '{subject}' "
            "AND source = 'batch' ORDER BY window_end DESC, id DESC LIMIT 1"
        )
        return found[0][0]

    def alerts(self) -> set[tuple[str, str, str]]:
        open_ones = "SELECT kind, subject, severity FROM model_alerts WHERE closed_at IS NULL"
        return set(self.query(open_ones))

    def score_moved(self, run_id: str) -> None:
        """Score the rows of the first run, with another first column."""
        self.score(moved(pd.read_csv(self.folder / "data/raw/many.csv")), run_id)

    def finished(self, run_id: str) -> datetime:
        file = self.folder / "data/predictions" / run_id / "_manifest.json"
        return datetime.fromisoformat(json.loads(file.read_text())["timings"]["finished"])


@pytest.fixture(scope="session")
def scored_project(trained, tmp_path_factory) -> Path:
    """The trained project, which has scored the example's rows 10 times over."""
    folder = tmp_path_factory.mktemp("scored") / "project"
    project = trained.copy_to(folder)
    pd.concat([pd.read_csv(folder / "data/raw/example.csv")] * 10).to_csv(
        folder / "data/raw/many.csv", index=False
    )
    done = project.run("score", "--input", "data/raw/many.csv", "--run-id", "first")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def monitored(scored_project, tmp_path, monkeypatch, capsys) -> Monitored:
    shutil.copytree(scored_project, tmp_path / "project")
    use(tmp_path / "project", monkeypatch)
    monkeypatch.chdir(tmp_path / "project")
    return Monitored(tmp_path / "project", monkeypatch, capsys)
