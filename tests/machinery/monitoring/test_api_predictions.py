"""Predictions of the API, with their inputs: labels by request and row, drift, two versions."""

import sqlite3

import numpy as np
import pandas as pd
import pytest
from conftest import QUICK, one_sentence

from iris_flower_prediction.contract import CONTRACT

pytestmark = pytest.mark.slow
TARGET = CONTRACT.target.name


@pytest.fixture
def asked(copied, examples):
    """A project whose API has answered 300 requests of 1 row, and one of 150."""
    from api_process import Api

    api = Api(copied).wait_until_ready()
    table = examples[CONTRACT.names]
    for first in range(300):
        row = table.iloc[[first % len(table)]]
        api.post("/predict", {"data": row.to_dict("list")}, **{"X-Request-Id": f"one-{first}"})
    api.post("/predict", {"data": table.to_dict("list")}, **{"X-Request-Id": "all"})
    assert api.stop() == 0
    yield copied
    copied.stop()


def labelled(project, table: pd.DataFrame) -> str:
    file = project.folder / "data" / "labels.csv"
    table.to_csv(file, index=False)
    done = project.run("labels", "import", file)
    assert done.returncode == 0, done.stderr
    return done.stdout


def metric(project, name: str) -> tuple[float, int]:
    with sqlite3.connect(project.folder / "data" / "project.db") as database:
        query = (
            "SELECT value, rows FROM model_metrics WHERE source = 'api' AND name = ? ORDER BY id"
        )
        return database.execute(query, [name]).fetchall()[-1]


def test_kept_predictions_are_measured(asked, examples):
    count = len(examples)
    of_one = pd.DataFrame(
        {
            "request_id": [f"one-{first}" for first in range(300)] + ["nobody"],
            "row": 0,
            TARGET: [examples[TARGET][first % count] for first in range(300)] + [0],
        }
    )
    assert "No prediction is for nobody/0." in labelled(asked, of_one)
    of_all = pd.DataFrame({"request_id": "all", "row": range(count), TARGET: examples[TARGET]})
    assert "No prediction" not in labelled(asked, of_all)
    done = asked.run("monitor")
    assert done.returncode == 0, done.stderr
    assert f"version 1: {300 + count:,} predictions" in done.stdout
    value, rows = metric(asked, "accuracy")
    assert rows == 300 + count
    with sqlite3.connect(asked.folder / "data" / "project.db") as database:
        joined = "kept_predictions JOIN prediction_labels ON prediction_labels.id = row_id"
        query = f"SELECT avg(label = CAST(prediction AS TEXT)) FROM {joined}"
        ((share,),) = database.execute(query).fetchall()
    assert value == pytest.approx(share)
    assert metric(asked, "psi")[0] < 0.1
    assert "0 alerts are open" in done.stdout


def test_requests_that_moved_alert(copied, examples):
    from api_process import Api

    api = Api(copied).wait_until_ready()
    moved = examples[CONTRACT.names].copy()
    first = CONTRACT.names[0]
    moved[first] = np.minimum(moved[first] + 3, 14)
    assert api.post("/predict", {"data": moved.to_dict("list")}).status == 200
    assert api.stop() == 0
    done = copied.run("monitor", "--exit-code")
    assert done.returncode == 1
    assert f"{first} has moved away from the training rows" in done.stdout


def test_two_versions_in_a_window_are_told_apart(asked, examples):
    from api_process import Api

    assert asked.run("train", "--force", **QUICK).returncode == 0
    api = Api(asked).wait_until_ready()
    body = {"data": examples[CONTRACT.names].head(120).to_dict("list")}
    assert api.post("/predict", body).status == 200
    assert api.stop() == 0
    text = asked.run("monitor").stdout
    assert text.index("version 1:") < text.index("version 2: 120 predictions")


def test_a_table_of_labels_without_a_place(copied):
    file = copied.folder / "data" / "labels.csv"
    pd.DataFrame({TARGET: [0]}).to_csv(file, index=False)
    problem = one_sentence(copied.run("labels", "import", file))
    assert "column run_id, source, row is missing; without a key in contract.py" in problem
