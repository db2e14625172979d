"""From the spool to the database: every row once, whatever happens to it or to the process."""

import json
import math
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from iris_flower_prediction.api import kept
from iris_flower_prediction.api.kept import Delivery, predictions
from iris_flower_prediction.api.processes import backoff
from iris_flower_prediction.api.spool import REFUSED, Spool, segments
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.schema.columns import Column
from iris_flower_prediction.tables import migrate
from iris_flower_prediction.tables.databases import connect
from iris_flower_prediction.tables.migrate import ensure

# A prediction of the contract's target, as it stands in JSON.
PREDICTION = {
    "float": 1.5,
    "integer": 2,
    "boolean": True,
    "date": "2020-01-31",
    "category": CONTRACT.target.allowed[0] if CONTRACT.target.allowed else None,
}[CONTRACT.target.type]
STORED = date(2020, 1, 31) if CONTRACT.target.type == "date" else PREDICTION
TIME = 1_600_000_000.25


def line(request_id, rows=1, **changed):
    record = {
        "request_id": request_id,
        "time": TIME,
        "client": "shop",
        "model": "flowers",
        "version": "7",
        "inputs": {"A": [row + 0.5 for row in range(rows)], "B": [None] * rows},
        "predictions": [PREDICTION] * rows,
        "probabilities": [0.75] * rows,
    }
    return json.dumps(record | changed).encode() + b"\n"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def spool(folder):
    return Spool(folder, 10_000_000)


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path}/kept/predictions.db"


@pytest.fixture
def events():
    return []


@pytest.fixture
def delivery(folder, database, events):
    return Delivery(folder, database, lambda *event: events.append(event))


@pytest.fixture
def keep(spool):
    """keep(*lines): a segment of them, which nobody holds."""

    def keep(*lines):
        for each in lines:
            assert spool.append(each)
        spool.close()

    return keep


@pytest.fixture
def stored(database):
    def stored():
        with connect(database) as connection:
            return list(connection.execute(sa.select(predictions).order_by("id")))

    return stored


def counted(stored):
    """How often each request is stored."""
    found = [row.request_id for row in stored()]
    return {request_id: found.count(request_id) for request_id in found}


def test_a_row_for_each_predicted_row(spool, keep, delivery, stored, events):
    keep(line("a", rows=2), line("b", probabilities=None))
    delivery.deliver()
    first, second, third = stored()
    assert first.request_id == second.request_id == "a"
    assert [(row.line, row.row) for row in (first, second, third)] == [(0, 0), (0, 1), (1, 0)]
    assert first.predicted_at.replace(tzinfo=UTC) == datetime.fromtimestamp(TIME, UTC)
    assert (first.client, first.model, first.model_version) == ("shop", "flowers", "7")
    assert second.inputs == {"A": 1.5, "B": None}
    assert second.prediction == STORED
    assert (first.probability, third.probability) == (0.75, None)
    assert events == [("delivered", 3)]
    assert segments(spool.folder) == []


def test_what_a_killed_api_has_left_is_delivered_by_hand(folder, keep, database, stored, call):
    keep(line("last"))
    given = {"APP__KEEPING__SPOOL": folder, "APP__DATABASE": database}
    done = call("deliver", **given)
    assert (done.returncode, done.stdout) == (0, "Nothing waits.\n"), done.stderr
    assert counted(stored) == {"last": 1}


def test_what_an_api_still_writes_is_left_to_it(folder, spool, database, call):
    spool.append(line("now"))
    done = call("deliver", APP__KEEPING__SPOOL=folder, APP__DATABASE=database)
    assert (done.returncode, done.stdout) == (1, f"1 segments are left in {folder}.\n")


def test_nothing_is_written_where_nothing_was_kept(spool, delivery, tmp_path):
    delivery.deliver()
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    "target, kind",
    [
        (Column("T", "float"), sa.Double),
        (Column("T", "integer"), sa.BigInteger),
        (Column("T", "boolean"), sa.Boolean),
        (Column("T", "date"), sa.Date),
        (Column("T", "category", allowed=("a", "b")), sa.Text),
        (Column("T", "category", allowed=(0, 1)), sa.BigInteger),
    ],
)
def test_predictions_have_the_type_of_the_target(target, kind):
    assert type(migrate.target_type(target)) is kind


def test_names_that_are_too_long_are_cut(keep, delivery, stored):
    keep(line("x" * 100, client="y" * 300))
    delivery.deliver()
    assert [(row.request_id, row.client) for row in stored()] == [("x" * 64, "y" * 261)]


def test_a_prediction_that_is_no_number_is_kept_as_missing(keep, delivery, stored):
    keep(line("a", predictions=[None]))
    delivery.deliver()
    assert [row.prediction for row in stored()] == [None]


DAMAGED = [
    line("torn")[:-20],
    b"\n",
    b"\xff\xfe\n",
    b"[]\n",
    line("shorter", rows=2, predictions=[PREDICTION]),
    line("likelier", probabilities=[0.5, 0.5]),
    line("nothing", inputs={}),
    line("eternal", time=1e300),
    line("timeless", time=None),
    line("unending", inputs={"A": [math.nan]}),
]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_line_is_counted_and_left_out(keep, delivery, stored, events, damaged):
    keep(line("a"), damaged.rstrip(b"\n") + b"\n", line("b"))
    delivery.deliver()
    assert counted(stored) == {"a": 1, "b": 1}
    assert sorted(events) == [("damaged", 1), ("delivered", 2)]


def test_a_line_torn_at_the_end_costs_nothing_else(keep, delivery, stored, events):
    keep(line("a"), line("b")[:-20])
    keep(line("c"))
    delivery.deliver()
    assert counted(stored) == {"a": 1, "c": 1}
    assert events == [("delivered", 1), ("damaged", 1), ("delivered", 1)]


KILLED = """
import os, signal, sys
from pathlib import Path
from iris_flower_prediction.api.kept import Delivery

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

Path.unlink = killed
Delivery(Path(sys.argv[1]), sys.argv[2]).deliver()
"""


def test_a_kill_between_commit_and_removal_stores_nothing_twice(
    keep, delivery, stored, project, database, events
):
    for request_id in "abc":
        keep(line(request_id, rows=3))
    script = project.folder / "killed.py"
    script.write_text(KILLED)
    for _ in range(2):
        done = project.run(script, delivery.folder, database)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert counted(stored) == {"a": 3}
        assert len(segments(delivery.folder)) == 3
    delivery.deliver()
    assert counted(stored) == {"a": 3, "b": 3, "c": 3}
    assert events == [("delivered", 3)] * 2, "what was there already is not counted again"


def test_what_a_locked_database_delays_is_delivered_once(
    keep, delivery, stored, database, events, monkeypatch, caplog
):
    monkeypatch.setattr(kept, "DATABASE_SECONDS", 0.05)
    monkeypatch.setattr(kept, "RETRY_SECONDS", 0)
    keep(line("a"))
    delivery.step()
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(5):
            keep(line(f"b{number}"))
            delivery.step()
        other.rollback()
    delivery.step()
    assert segments(delivery.folder) == []
    assert counted(stored) == {"a": 1} | {f"b{number}": 1 for number in range(5)}
    assert events.count(("failed", 1)) == 5
    first, second = (record.getMessage() for record in caplog.records)
    assert "predictions wait" in first and "locked" in first
    assert "delivered again" in second


def test_after_a_failure_it_waits(keep, folder, monkeypatch):
    tries = []
    delivery = Delivery(folder, "sqlite:////dev/null/no.db", lambda *event: tries.append(event))
    keep(line("a"))
    for _ in range(5):
        delivery.step()
    assert tries == [("failed", 1)]
    monkeypatch.setattr(kept.time, "monotonic", lambda: 1e12)
    delivery.step()
    assert len(tries) == 2


def test_a_database_that_has_gone_is_not_made_anew(keep, delivery, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "RETRY_SECONDS", 0)
    keep(line("a"))
    delivery.step()
    unmounted = (tmp_path / "kept").rename(tmp_path / "elsewhere")
    keep(line("b"))
    for _ in range(3):
        delivery.step()
    assert len(segments(delivery.folder)) == 1
    unmounted.rename(tmp_path / "kept")
    delivery.step()
    assert segments(delivery.folder) == []
    assert counted(stored) == {"a": 1, "b": 1}


def test_a_segment_that_the_database_refuses_is_set_aside(
    keep, delivery, stored, database, events, caplog
):
    rule = "CREATE TRIGGER rule BEFORE INSERT ON kept_predictions WHEN NEW.client = 'nobody' "
    rule += "BEGIN SELECT RAISE(ABORT, 'not for you'); END"
    with connect(database, create=True) as connection:
        ensure(connection, database, CONTRACT.target)
        connection.execute(sa.text(rule))
    for client in ("shop", "nobody", "shop"):
        keep(line(client, client=client))
    poison = segments(delivery.folder)[1]
    delivery.deliver()
    assert counted(stored) == {"shop": 2}
    assert [path.name for path in (delivery.folder / REFUSED).iterdir()] == [poison.name]
    assert events == [("delivered", 1), ("refused", 1), ("delivered", 1)]
    assert "not for you" in caplog.text
    with connect(database) as connection:
        connection.execute(sa.text("DROP TRIGGER rule"))
    (delivery.folder / REFUSED / poison.name).rename(poison)
    delivery.deliver()
    assert counted(stored) == {"shop": 2, "nobody": 1}


def test_tables_that_cannot_be_made_refuse_no_segment(keep, delivery, stored, events, monkeypatch):
    """PostgreSQL may fail one of two that create a table at once with an IntegrityError."""
    monkeypatch.setattr(kept, "RETRY_SECONDS", 0)

    def fail(*_):
        raise sa.exc.IntegrityError("CREATE TABLE", {}, Exception("pg_type_typname_nsp_index"))

    keep(line("a"))
    with monkeypatch.context() as patch:
        patch.setattr(kept, "ensure", fail)
        delivery.step()
    assert events == [("failed", 1)]
    delivery.step()
    assert counted(stored) == {"a": 1}


def test_a_database_of_another_version_takes_nothing(
    keep, delivery, stored, database, caplog, monkeypatch
):
    monkeypatch.setattr(kept, "RETRY_SECONDS", 0)
    tell = f"UPDATE {migrate.VERSION_TABLE} SET version_num = '{{}}'"
    with connect(database, create=True) as connection:
        ensure(connection, database, CONTRACT.target)
        connection.execute(sa.text(tell.format(9999)))
    keep(line("a"))
    delivery.step()
    (record,) = caplog.records
    assert "at version 9999, which this code does not know" in record.getMessage()
    assert stored() == []
    with connect(database) as connection:
        connection.execute(sa.text(tell.format(migrate.revisions()[-1])))
    delivery.step()
    assert counted(stored) == {"a": 1}


def test_a_long_request_is_stored_whole(keep, delivery, stored):
    rows = 10 * kept.CHUNK_ROWS + 1
    keep(line("long", rows=rows))
    delivery.deliver()
    assert [row.row for row in stored()] == list(range(rows))


@pytest.mark.parametrize("failures, longest", [(1, 1), (2, 2), (3, 4), (9, 30), (10_000, 30)])
def test_tries_become_rarer_and_never_stop(failures, longest):
    seconds = {backoff(0.5, failures, 30) for _ in range(100)}
    assert len(seconds) > 1
    assert longest * 0.8 <= min(seconds) <= max(seconds) <= longest
