"""The delivery: every row of the spool once, whatever happens to the database or the process."""

import json
import math
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa
from conftest import wait_for

from iris_flower_prediction.api import delivery
from iris_flower_prediction.api.delivery import Delivery
from iris_flower_prediction.api.kept import kept_segments, predictions
from iris_flower_prediction.api.spool import REFUSED, Spool, sealed
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
AT_VERSION = f"UPDATE {migrate.VERSION_TABLE} SET version_num = '{{}}'"


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
    spool = Spool(folder, 10_000_000)
    yield spool
    spool.close()


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path}/kept/predictions.db"


@pytest.fixture
def events():
    return []


@pytest.fixture
def start(folder, database, events):
    """start(): a running delivery; all of them are stopped after the test."""
    started = []

    def start():
        started.append(Delivery(folder, database, lambda *event: events.append(event)))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop(10)
        assert not each._thread.is_alive()


@pytest.fixture
def deliver(start):
    """deliver(): all that is sealed, by a delivery that starts and stops."""
    return lambda: start().stop(30)


@pytest.fixture
def stored(database):
    def stored(table=predictions):
        with connect(database) as connection:
            return list(connection.execute(sa.select(table)))

    return stored


def counted(stored):
    """How often each request is stored."""
    found = [row.request_id for row in stored()]
    return {request_id: found.count(request_id) for request_id in found}


def test_a_row_for_each_predicted_row(spool, deliver, stored, events):
    spool.append(line("a", rows=2) + line("b", probabilities=None), 2)
    spool.seal()
    deliver()
    first, second, third = stored()
    assert first.request_id == second.request_id == "a"
    assert (first.row, second.row, third.row) == (0, 1, 0)
    assert first.predicted_at.replace(tzinfo=UTC) == datetime.fromtimestamp(TIME, UTC)
    assert (first.client, first.model, first.model_version) == ("shop", "flowers", "7")
    assert second.inputs == {"A": 1.5, "B": None}
    assert second.prediction == STORED
    assert (first.probability, third.probability) == (0.75, None)
    assert events == [("delivered", 3)]
    assert sealed(spool.folder) == []


def test_what_a_killed_api_has_left_is_delivered_by_hand(folder, database, stored, call):
    killed = Spool(folder, 10_000_000)
    killed.append(line("last"), 1)
    killed._lock.release()  # as the system does
    done = call("deliver", APP__KEEPING__SPOOL=folder, APP__DATABASE=database)
    assert (done.returncode, done.stdout) == (0, "Nothing waits.\n"), done.stderr
    assert counted(stored) == {"last": 1}
    killed._closed = True


def test_nothing_is_written_where_nothing_was_kept(spool, deliver, tmp_path):
    deliver()
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


def test_names_that_are_too_long_are_cut(spool, deliver, stored):
    spool.append(line("x" * 100, client="y" * 300), 1)
    spool.seal()
    deliver()
    assert [(row.request_id, row.client) for row in stored()] == [("x" * 64, "y" * 261)]


def test_a_prediction_that_is_no_number_is_kept_as_missing(spool, deliver, stored):
    spool.append(line("a", predictions=[None]), 1)
    spool.seal()
    deliver()
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
def test_a_damaged_line_is_counted_and_left_out(spool, deliver, stored, events, damaged):
    spool.append(line("a") + damaged.rstrip(b"\n") + b"\n" + line("b"), 3)
    spool.seal()
    deliver()
    assert counted(stored) == {"a": 1, "b": 1}
    assert sorted(events) == [("damaged", 1), ("delivered", 2)]


def test_a_line_torn_at_the_end_costs_nothing_else(spool, deliver, stored, events):
    spool.append(line("a") + line("b")[:-20], 2)
    spool.seal()
    spool.append(line("c"), 1)
    spool.seal()
    deliver()
    assert counted(stored) == {"a": 1, "c": 1}
    assert events == [("delivered", 1), ("damaged", 1), ("delivered", 1)]


def test_a_segment_that_was_delivered_before_is_only_removed(spool, deliver, stored, events):
    spool.append(line("a"), 1)
    spool.seal()
    (segment,) = sealed(spool.folder)
    content = segment.read_bytes()
    deliver()
    segment.write_bytes(content)
    deliver()
    assert counted(stored) == {"a": 1}
    assert events == [("delivered", 1)]
    assert sealed(spool.folder) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from iris_flower_prediction.api.delivery import Delivery

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

Path.unlink = killed
delivery = Delivery(Path(sys.argv[1]), sys.argv[2], print)
delivery.start()
delivery._thread.join(60)
"""


def test_a_kill_between_commit_and_removal_stores_nothing_twice(
    spool, deliver, stored, project, database
):
    for request_id in "abc":
        spool.append(line(request_id, rows=3), 1)
        spool.seal()
    script = project.folder / "killed.py"
    script.write_text(KILLED)
    for _ in range(2):
        done = project.run(script, spool.folder, database)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert counted(stored) == {"a": 3}
        assert len(sealed(spool.folder)) == 3
    deliver()
    assert counted(stored) == {"a": 3, "b": 3, "c": 3}


def test_names_are_forgotten_some_time_after_their_segments(spool, start, stored, monkeypatch):
    start()

    def keep(request_id):
        spool.append(line(request_id), 1)
        spool.seal()
        wait_for(lambda: sealed(spool.folder) == [])

    keep("a")
    keep("b")
    assert len(stored(kept_segments)) == 2
    monkeypatch.setattr(delivery, "FORGET_SECONDS", 0)
    time.sleep(0.01)
    keep("c")
    keep("d")
    assert len(stored(kept_segments)) < 3
    assert counted(stored) == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_what_a_locked_database_delays_is_delivered_once(
    spool, start, stored, database, events, monkeypatch, caplog
):
    monkeypatch.setattr(delivery, "DATABASE_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.01)
    spool.append(line("a"), 1)
    spool.seal()
    start()
    wait_for(lambda: events)
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(5):
            spool.append(line(f"b{number}"), 1)
            spool.seal()
        wait_for(lambda: events.count(("failed", 1)) >= 3)
        other.rollback()
    wait_for(lambda: sealed(spool.folder) == [])
    assert counted(stored) == {"a": 1} | {f"b{number}": 1 for number in range(5)}
    first, second = (record.getMessage() for record in caplog.records)
    assert "predictions wait" in first and "locked" in first
    assert "delivered again" in second


def test_a_database_that_was_removed_is_made_again(spool, start, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.01)
    start()
    for request_id in "ab":
        spool.append(line(request_id), 1)
        spool.seal()
        wait_for(lambda: sealed(spool.folder) == [])
        if request_id == "a":
            (tmp_path / "kept/predictions.db").unlink()
    assert counted(stored) == {"b": 1}


def test_a_segment_that_the_database_refuses_is_set_aside(
    spool, deliver, stored, database, events, caplog
):
    rule = "CREATE TRIGGER rule BEFORE INSERT ON kept_predictions WHEN NEW.client = 'nobody' "
    rule += "BEGIN SELECT RAISE(ABORT, 'not for you'); END"
    with connect(database, create=True) as connection:
        ensure(connection, database, CONTRACT.target)
        connection.execute(sa.text(rule))
    for client in ("shop", "nobody", "shop"):
        spool.append(line(client, client=client), 1)
        spool.seal()
    poison = sealed(spool.folder)[1]
    deliver()
    assert counted(stored) == {"shop": 2}
    assert [path.name for path in (spool.folder / REFUSED).iterdir()] == [poison.name]
    assert events == [("delivered", 1), ("refused", 1), ("delivered", 1)]
    assert "not for you" in caplog.text
    with connect(database) as connection:
        connection.execute(sa.text("DROP TRIGGER rule"))
    (spool.folder / REFUSED / poison.name).rename(poison)
    deliver()
    assert counted(stored) == {"shop": 2, "nobody": 1}


def test_tables_that_cannot_be_made_refuse_no_segment(spool, start, stored, events, monkeypatch):
    """PostgreSQL may fail one of two that create a table at once with an IntegrityError."""
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.01)

    def fail(*_):
        raise sa.exc.IntegrityError("CREATE TABLE", {}, Exception("pg_type_typname_nsp_index"))

    spool.append(line("a"), 1)
    spool.seal()
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "ensure", fail)
        start()
        wait_for(lambda: events.count(("failed", 1)) >= 2)
    wait_for(lambda: sealed(spool.folder) == [])
    assert counted(stored) == {"a": 1}


def test_a_database_of_another_version_is_told_before_there_is_a_segment(
    spool, start, stored, database, events, caplog, monkeypatch
):
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.01)
    with connect(database, create=True) as connection:
        ensure(connection, database, CONTRACT.target)
        connection.execute(sa.text(AT_VERSION.format(9999)))
    start()
    wait_for(lambda: ("failed", 1) in events)
    (record,) = caplog.records
    assert "at version 9999, which this code does not know" in record.getMessage()
    spool.append(line("a"), 1)
    spool.seal()
    tries = len(events)
    wait_for(lambda: len(events) > tries)
    assert stored() == []
    with connect(database) as connection:
        newest = migrate.revisions()[-1]
        connection.execute(sa.text(AT_VERSION.format(newest)))
    wait_for(lambda: sealed(spool.folder) == [])
    assert counted(stored) == {"a": 1}


def test_a_long_request_is_stored_whole(spool, deliver, stored):
    rows = 10 * delivery.CHUNK_ROWS + 1
    spool.append(line("long", rows=rows), 1)
    spool.seal()
    deliver()
    assert [row.row for row in stored()] == list(range(rows))


def test_one_process_delivers_and_another_takes_over(spool, start, stored, events):
    running = [start() for _ in range(3)]
    expected = {}
    for number in range(30):
        spool.append(line(str(number)), 1)
        spool.seal()
        expected[str(number)] = 1
        if number == 15:
            wait_for(lambda: [each for each in running if each._lock.is_locked])[0].stop(10)
    spool.close()
    wait_for(lambda: sealed(spool.folder) == [])
    assert counted(stored) == expected
    assert sum(rows for event, rows in events if event == "delivered") == 30


def test_stop_keeps_to_its_time(spool, start, database, monkeypatch):
    monkeypatch.setattr(delivery, "DATABASE_SECONDS", 60)
    with connect(database, create=True) as connection:
        ensure(connection, database, CONTRACT.target)
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        spool.append(line("a"), 1)
        spool.seal()
        running = start()
        begun = time.monotonic()
        running.stop(0.2)
        assert time.monotonic() - begun < 30
    assert len(sealed(spool.folder)) == 1


@pytest.mark.parametrize("failures, longest", [(1, 1), (2, 2), (3, 4), (9, 30), (10_000, 30)])
def test_tries_become_rarer_and_never_stop(failures, longest):
    seconds = {delivery.retry_seconds(failures) for _ in range(100)}
    assert len(seconds) > 1
    assert longest / 2 <= min(seconds) <= max(seconds) <= longest
