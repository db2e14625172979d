"""A project with a key, categories and dates: labels find predictions by the key alone."""

import sqlite3

import pandas as pd
import pytest
from churn_project import Churn, customers
from conftest import QUICK
from sklearn.metrics import log_loss

pytestmark = pytest.mark.slow

CLASSES = "leaves", "stays"


@pytest.fixture(scope="module")
def churned(tmp_path_factory) -> Churn:
    project = Churn(tmp_path_factory.mktemp("churned") / "project")
    customers().to_csv(project.table, index=False)
    told(project, "train", **QUICK)
    yield project
    project.stop()


def told(project: Churn, *words: object, **settings) -> str:
    done = project.run(*words, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metric(project: Churn, name: str, subject: str = "") -> float:
    with sqlite3.connect(project.folder / "data" / "project.db") as database:
        query = (
            "SELECT value FROM model_metrics WHERE source = 'batch' AND name = ? AND subject = ?"
        )
        return database.execute(query, [name, subject]).fetchall()[-1][0]


def predictions(project: Churn, run_id: str) -> pd.DataFrame:
    parts = project.folder.glob(f"data/predictions/{run_id}/*.parquet")
    return pd.concat([pd.read_parquet(part) for part in parts])


def test_a_window_of_customers(churned):
    table = customers()
    table.loc[:19, "PLAN"] = "gold"
    table.loc[20:29, "SINCE"] = pd.NaT
    file = churned.folder / "data" / "raw" / "odd.csv"
    pd.concat([table, table.tail(30)]).to_csv(file, index=False)
    told(churned, "score", "--input", file, "--run-id", "odd")
    labels = churned.folder / "data" / "labels.parquet"
    customers()[["CUSTOMER", "OUTCOME"]].head(1000).to_parquet(labels)
    found = told(churned, "labels", "import", labels)
    assert "1,000 new labels" in found
    assert "No prediction is for 000" in found, "the rejected ones"
    assert "and 27 more" in found
    text = told(churned, "monitor", "--window", "odd")
    assert "log_loss" in text
    assert "calibration_error" in text
    assert metric(churned, "labelled_share") == pytest.approx(970 / 2000)
    assert metric(churned, "rejected_share") == pytest.approx(30 / 2030)
    assert metric(churned, "new_categories", "PLAN") == 20
    assert metric(churned, "rejected", "SINCE") == 10
    assert metric(churned, "duplicate_share") == pytest.approx(30 / 2000)
    assert metric(churned, "missing_share", "AGE") == pytest.approx(0.15, abs=0.03)
    moved = customers().assign(PLAN="business")
    moved.to_csv(file, index=False)
    told(churned, "score", "--input", file, "--run-id", "moved")
    assert "PLAN has moved away from the training rows" in told(churned, "monitor")
    # The id "odd" sorts after "moved", which is the newer run: its predictions count.
    both = customers().head(1000).merge(predictions(churned, "moved"), on="CUSTOMER")
    loss = log_loss(both["OUTCOME"], both[[f"probability_{each}" for each in CLASSES]])
    assert metric(churned, "log_loss") == pytest.approx(loss, abs=1e-4)
    assert metric(churned, "labelled_share") == pytest.approx(1970 / 4000)
