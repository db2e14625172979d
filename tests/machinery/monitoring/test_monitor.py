"""The commands `labels import`, `monitor` and `retrain`, on the example scored by the batch job."""

import re
import sqlite3
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from conftest import QUICK
from monitored_project import moved
from real_stores import reachable
from sklearn.metrics import accuracy_score

from iris_flower_prediction import model
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.monitoring import batch_runs, look, monitor
from iris_flower_prediction.tables.locks import only_one
from iris_flower_prediction.tables.storage import CloudFolder
from iris_flower_prediction.training import train

DAY = timedelta(days=1)
TARGET, (FIRST, *_) = CONTRACT.target.name, CONTRACT.names


@pytest.fixture
def table(examples) -> pd.DataFrame:
    """The rows of the first run, with their labels and their places."""
    return pd.concat([examples] * 10, ignore_index=True)


@pytest.fixture
def labels(monitored, table) -> pd.DataFrame:
    predicted = pd.read_parquet(monitored.folder / "data/predictions/first")
    assert predicted["row"].tolist() == list(range(len(table)))
    return predicted[["run_id", "source", "row"]].assign(**{TARGET: table[TARGET]})


def test_labels_make_the_predictions_measurable(monitored, labels):
    before = monitored.told("monitor")
    assert "version 1: 1,500 predictions" in before
    assert "No prediction has a label" in before
    assert "1,500 new labels, 0 corrected" in monitored.label(labels)
    after = monitored.told("monitor")
    predicted = pd.read_parquet(monitored.folder / "data/predictions/first")
    expected = accuracy_score(labels[TARGET], predicted["prediction"])
    assert f"accuracy             {expected:.4f} (" in after
    assert monitored.metric("accuracy") == pytest.approx(expected)
    assert monitored.metric("labelled_share") == 1
    assert 0 < monitored.metric("calibration_error") < 0.3
    ((low, high),) = set(
        monitored.query("SELECT low, high FROM model_metrics WHERE name = 'accuracy'")
    )
    half = 1.96 * np.sqrt(expected * (1 - expected) / len(labels))
    assert (high - low) / 2 == pytest.approx(half, rel=0.5)
    assert (high + low) / 2 == pytest.approx(expected, abs=half / 2)


def test_the_same_window_again_replaces_its_rows(monitored):
    end = datetime.now(UTC)
    for _ in range(2):
        monitored.told("monitor", "--window", f"2020-01-01..{end}")
    what = "source || model_version || name || subject"
    query = f"SELECT count(*), count(DISTINCT {what}) FROM model_metrics WHERE source = 'batch'"
    [(count, different)] = monitored.query(query)
    assert count == different > 10


def test_labels_come_late_in_parts_corrected_and_twice(monitored, labels):
    assert "500 new labels" in monitored.label(labels.head(500))
    assert "0 new labels, 0 corrected" in monitored.label(labels.head(500))
    late = labels.head(600).astype({TARGET: "Int64"})
    late.loc[0, TARGET] = (late.loc[0, TARGET] + 1) % 3
    late.loc[10, TARGET] = None
    found = monitored.label(pd.concat([late, late.tail(3)]))
    assert "603 rows read: 100 new labels, 1 corrected, 1 rows have none yet." in found
    monitored.told("monitor")
    assert monitored.metric("labelled_share") == 600 / 1500


def test_labels_that_cannot_be_used_are_counted_and_named(monitored, labels):
    few = labels.head(8).astype({"source": object})
    few.loc[1:4, "source"] = ["a.csv", "b.csv", "c.csv", "d.csv"]
    few.loc[5, "source"] = None
    few.loc[6, TARGET] = 9
    found = monitored.label(few)
    assert "6 new labels" in found
    assert "1 rows do not say which prediction they are for." in found
    assert "1 labels break the contract: 9 is not one of 0, 1, 2." in found
    assert "No prediction is for first/a.csv/1, first/b.csv/2, first/c.csv/3 and 1 more." in found


def test_a_table_of_labels_lacks_a_column(monitored):
    file = monitored.folder / "data" / "labels.csv"
    file.write_text(f"{TARGET}\n1\n")
    assert "column run_id, source, row is missing; without a key" in monitored.problem(
        "labels", "import", file
    )
    file.write_text("run_id,source,row\nr,a,1\n")
    assert f"column {TARGET} is missing" in monitored.problem("labels", "import", file)
    assert "does not exist" in monitored.problem("labels", "import", "nowhere.csv")


def test_drift_alerts_once_and_is_closed_when_it_is_over(monitored, table):
    monitored.told("monitor")
    assert monitored.alerts() == set()
    monitored.score(moved(table), "second")
    text = monitored.told("monitor", "--exit-code", code=1)
    assert f"{FIRST} has moved away from the training rows" in text
    assert ("drift", FIRST, "critical") in monitored.alerts()
    opened = monitored.query("SELECT id, opened_at FROM model_alerts")
    monitored.told("monitor")
    assert monitored.query("SELECT id, opened_at FROM model_alerts") == opened
    since = monitored.finished("second") + timedelta(microseconds=1)
    monitored.score(table, "usual")
    text = monitored.told("monitor", "--window", f"{since}..{datetime.now(UTC)}", "--exit-code")
    assert "0 alerts are open" in text
    assert len(monitored.query("SELECT id FROM model_alerts WHERE closed_at > seen_at")) == len(
        opened
    )


def test_a_small_window_does_not_shout(monitored, table):
    since = datetime.now(UTC)
    monitored.score(moved(table.sample(40, random_state=0)), "few")
    monitored.told("monitor", "--window", f"{since}..{datetime.now(UTC)}")
    assert monitored.metric("psi", FIRST) > 0.25
    assert monitored.alerts() == set()


def test_a_single_run_is_looked_at_but_not_judged(monitored, table):
    monitored.score(moved(table), "second")
    text = monitored.told("monitor", "--window", "second")
    assert "batch: run second" in text
    assert "api: " not in text
    assert monitored.metric("psi", FIRST) > 0.25
    assert monitored.alerts() == set()


def test_rejected_rows_are_counted_by_column(monitored, table):
    table = table.head(300).astype({FIRST: float})
    table.loc[:19, FIRST] = 99
    table.loc[20:29, CONTRACT.names[1]] = None
    monitored.score(table, "odd", APP__BATCH__MAX_REJECTED_SHARE=1)
    monitored.told("monitor", "--window", "odd")
    assert monitored.metric("rejected_share") == pytest.approx(30 / 300)
    assert monitored.metric("rejected", FIRST) == 20
    assert monitored.metric("rejected", CONTRACT.names[1]) == 10
    text = monitored.told("monitor", APP__BATCH__MAX_REJECTED_SHARE=0.02)
    assert "1.7% of the rows were rejected, more than 1.0%; a run fails at twice that." in text


def test_volume_and_age(monitored, monkeypatch):
    began = datetime.now(UTC)

    def look(days: float, window: str = "1d") -> str:
        monkeypatch.setattr(monitor, "now", lambda: began + days * DAY)
        return monitored.told("monitor", "--window", window)

    look(-3)
    assert monitored.alerts() == set(), "nothing was ever predicted until then"
    for days in (-0.9, 0.1, 0.2):  # the second and the third overlap
        assert "0 alerts are open" in look(days)
    text = look(1.5)
    assert "There are no predictions in this window." in text
    assert "There are 0 predictions, 0.00 times as many as before" in text
    assert "The newest prediction is 24 hours old" not in text
    assert "The newest prediction is 192 hours old, monitoring.max_age_hours is 48." in look(
        8, "7d"
    )


def test_a_window_ends_now_at_the_latest(monitored, table):
    tomorrow = datetime.now(UTC) + DAY
    monitored.told("monitor", "--window", f"2020-01-01..{tomorrow}")
    monitored.told("monitor", "--until", tomorrow)
    monitored.score(moved(table), "second")
    text = monitored.told("monitor")
    assert "opens and closes no alert" not in text
    assert ("drift", FIRST, "critical") in monitored.alerts()
    assert "in the future" in monitored.problem("monitor", "--window", f"{tomorrow}..2100-01-01")


def test_a_row_that_is_predicted_again_counts_once(monitored, labels):
    monitored.label(labels)
    monitored.told("monitor")
    before = monitored.metric("accuracy")
    counted = "SELECT max(rows) FROM model_metrics WHERE name = 'accuracy'"
    source = monitored.folder / "data/raw/many.csv"
    monitored.told("score", "--input", source, "--run-id", "again")
    monitored.told("monitor")
    assert monitored.query(counted) == [(1500,)], "without a key, a label is for one run"
    assert monitored.metric("accuracy") == before
    assert monitored.metric("labelled_share") == 0.5


def test_runs_of_another_contract_are_left_out(monitored, table):
    manifest = monitored.folder / "data/predictions/first/_manifest.json"
    manifest.write_text(manifest.read_text().replace('"contract": "1.', '"contract": "2.'))
    assert "There are no predictions in this window." in monitored.told("monitor")


def test_few_labels_have_no_interval(monitored, labels):
    monitored.label(labels.head(10))
    text = monitored.told("monitor")
    assert "There are only 10 labels: too few to judge the model." in text
    assert re.search(r"accuracy +[0-9.]+\n", text)


def test_the_report_of_another_window_does_not_replace_the_newest(monitored):
    monitored.told("monitor")
    newest = monitored.folder / "data/reports/monitoring.html"
    before = newest.read_bytes()
    assert "monitoring-first.html" in monitored.told("monitor", "--window", "first")
    text = monitored.told("monitor", "--window", "2020-01-01..2020-02-01")
    assert "monitoring-20200201T0000.html" in text
    assert "It opens and closes no alert" in text
    assert newest.read_bytes() == before


def test_an_older_window_does_not_change_alerts(monitored, table):
    monitored.score(moved(table), "second")
    monitored.told("monitor")
    known = monitored.alerts()
    assert known
    then = monitored.finished("first") + timedelta(microseconds=1)
    monitored.told("monitor", "--window", f"2020-01-01..{then}")
    assert monitored.alerts() == known


def test_a_version_without_a_reference(monitored, labels):
    monitored.label(labels)
    (monitored.folder / "mlflow.db").unlink()
    text = monitored.told("monitor")
    assert "There is no training reference of version 1, so no drift" in text
    assert "accuracy" in text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--window", "nothing"], "has no run nothing; a window is 7d, 12h, FROM..TO"),
        (["--window", "2026-02-30..2026-03-01"], "'2026-02-30' is no date or time"),
        (["--window", "2026-03-02..2026-03-01"], "the start is not before the end"),
        (["--window", "a..b", "--until", "2026-03-01"], "--until goes with a window of days"),
        (["--until", "soon"], "'soon' is no date or time"),
    ],
)
def test_a_window_that_is_none(monitored, words, problem):
    assert problem in monitored.problem("monitor", *words)


@pytest.mark.parametrize("output", ["one.csv", "one.parquet", "sqlite:///out.db#predictions"])
def test_every_output_gives_the_same_metrics(monitored, labels, output):
    monitored.label(labels)
    monitored.told("monitor", "--window", "first")
    names = ("accuracy", "log_loss", "calibration_error")
    expected = [monitored.metric(name) for name in names]
    place = {"APP__BATCH__OUTPUT": output}
    source = monitored.folder / "data/raw/many.csv"
    monitored.told("score", "--input", source, "--run-id", "elsewhere", **place)
    monitored.told("monitor", "--window", "elsewhere", **place)
    assert [monitored.metric(name) for name in names] == pytest.approx(expected, abs=1e-6)


def test_predictions_and_labels_in_cloud_storage(monitored, labels, s3_place, monkeypatch):
    cloud = reachable(s3_place, monkeypatch).uri
    place = {"APP__BATCH__OUTPUT": f"{cloud}/predictions"}
    source = monitored.folder / "data/raw/many.csv"
    monitored.told("score", "--input", source, "--run-id", "far", **place)
    places = pd.DataFrame(
        row
        for name in CloudFolder(f"{cloud}/predictions").files()
        if name.suffix == ".parquet"
        for row in pd.read_parquet(name.open())[["run_id", "source", "row"]].to_dict("records")
    )
    with CloudFolder(cloud).file("labels.parquet") as path:
        places.assign(**{TARGET: labels[TARGET]}).to_parquet(path)
    text = monitored.told("labels", "import", f"{cloud}/labels.parquet", **place)
    assert "1,500 new labels" in text and "No prediction" not in text
    monitored.told("monitor", "--window", "far", **place)
    assert monitored.metric("labelled_share") == 1


def test_retraining_is_asked_for_once(monitored, table):
    assert "there is nothing to do" in monitored.told("retrain", "--if-alert")
    monitored.score(moved(table), "second")
    monitored.told("monitor")
    text = monitored.told("retrain", "--if-alert", **QUICK)
    assert f"Training again: {FIRST} has moved away" in text
    assert "Version 2" in text
    assert "there is nothing to do" in monitored.told("retrain", "--if-alert")
    [asked, kept] = monitored.query("SELECT decision, version, reason FROM model_decisions")[-2:]
    assert asked[:2] == ("retraining", "") and asked[2].startswith(f"{FIRST} has moved away")
    assert kept[:2] == ("kept as challenger", "2")
    history = monitored.told("history", ACTOR="a test")
    assert history.index("kept as challenger  2") < history.index("retraining")


def test_an_old_model_is_trained_again_but_not_in_a_loop(monitored, monkeypatch):
    monkeypatch.setattr(train, "run", lambda _: print("Trained."))
    old = {"APP__RETRAINING__DAYS": 1e-9}
    text = monitored.told("retrain", "--if-alert", **old)
    assert "Training again: The newest version is 0 days old." in text and "Trained." in text
    text = monitored.told("retrain", "--if-alert", **old)
    assert "Not training again: the last one began 0.0 hours ago" in text
    text = monitored.told("retrain", "--if-alert", APP__RETRAINING__COOLDOWN_HOURS=0, **old)
    assert "Trained." in text
    text = monitored.told("retrain", "--if-alert", APP__RETRAINING__COOLDOWN_HOURS=0, **old)
    assert "Not training again: there were 2 within a day" in text
    assert "Trained." in monitored.told("retrain", "--reason", "a new product", ACTOR="sales")
    [last] = monitored.query("SELECT actor, decision, reason FROM model_decisions")[-1:]
    assert last == ("sales", "retraining", "a new product")


def test_a_decision_without_a_database_is_carried_out(monitored, tmp_path):
    monitored.told("train", "--force", **QUICK)
    (tmp_path / "file").touch()
    code, out, err = monitored.done("rollback", APP__DATABASE=f"sqlite:///{tmp_path}/file/b.db")
    assert code == 0 and "is the champion again" in out
    assert err.startswith("warning: this decision is not recorded: ") and err.count("\n") == 1


def test_a_business_metric_and_an_evaluation_that_fails(monitored, labels, monkeypatch):
    monitored.label(labels)
    monkeypatch.setattr(model, "business", lambda target, _: {"income": 2.0 * len(target)}, False)
    assert "income               3000.0000" in monitored.told("monitor")
    monkeypatch.setattr(model, "business", lambda target, _: 1 / 0)
    text = monitored.told("monitor")
    assert "model.business() ends with ZeroDivisionError" in text
    assert "The largest drift" in text


def test_the_database_is_postgresql(monitored, labels, table, postgresql):
    place = {"APP__DATABASE": postgresql}
    file = monitored.folder / "data" / "labels.csv"
    labels.to_csv(file, index=False)
    assert "1,500 new labels" in monitored.told("labels", "import", file, **place)
    assert "0 new labels" in monitored.told("labels", "import", file, **place)
    monitored.score(moved(table), "second", **place)
    for _ in range(2):
        text = monitored.told("monitor", **place)
    assert "accuracy" in text
    assert "critical since" in text


@pytest.mark.parametrize(
    ("change", "reopened"),
    [("subject = 'NO_MORE'", 1), ("model_version = '0'", 1), ("severity = 'warning'", 1)],
)
def test_an_alert_about_something_else_is_closed(monitored, change, reopened):
    """A column or a version that is gone, and a warning that has become critical."""
    monitored.score_moved("second")
    monitored.told("monitor")
    monitored.query(f"UPDATE model_alerts SET {change} WHERE subject = '{FIRST}'")
    text = monitored.told("monitor")
    assert f", {reopened} closed now." in text
    assert ("drift", FIRST, "critical") in monitored.alerts()


def test_alerts_stay_while_nothing_can_be_judged(monitored):
    monitored.score_moved("second")
    monitored.told("monitor")
    known = monitored.alerts()
    (monitored.folder / "mlflow.db").rename(monitored.folder / "away.db")
    monitored.told("monitor")
    assert monitored.alerts() == known


def test_each_version_has_alerts_of_its_own(monitored, table):
    """A few rows of a canary close no alert about the version that most clients get."""
    monitored.score_moved("second")
    monitored.told("monitor")
    known = monitored.alerts()
    monitored.told("train", "--force", **QUICK)
    monitored.score(table.sample(150, random_state=0), "canary")
    text = monitored.told("monitor")
    assert "version 2: 150 predictions" in text
    assert monitored.alerts() == known


def test_one_process_monitors_at_a_time(monitored, monkeypatch):
    monkeypatch.setattr(monitor, "LOCK_SECONDS", 0)
    with only_one("monitor", monitored.folder / "data/processed", "monitor"):
        assert "monitor is at work in another process" in monitored.problem("monitor")


def test_a_run_without_rows_does_no_harm(monitored, labels):
    monitored.label(labels)
    monitored.score(pd.read_csv(monitored.folder / "data/raw/many.csv").head(0), "empty")
    assert "version 1: 1,500 predictions" in monitored.told("monitor")


def test_labels_from_the_project_s_own_database(monitored, labels):
    with sqlite3.connect(monitored.folder / "data/project.db") as database:
        pd.concat([labels] * 20).to_sql("truth", database, index=False)
    text = monitored.told("labels", "import", "sqlite:///data/project.db#truth")
    assert "30,000 rows read: 1,500 new labels" in text


def test_labels_of_other_rows_do_not_crowd_out_those_of_the_window(monitored, labels, monkeypatch):
    monkeypatch.setattr(look, "MOST_LABELLED", 300)
    monkeypatch.setattr(batch_runs, "JOIN_ROWS", 100)
    monitored.label(labels)
    monitored.label(labels.assign(run_id="other"))
    monitored.told("monitor")
    assert monitored.metric("labelled_share") == 1
    [(rows,)] = set(monitored.query("SELECT rows FROM model_metrics WHERE name = 'accuracy'"))
    assert rows == 300
