"""Predictions kept in a real PostgreSQL, by processes that are killed and servers that stop."""

import json
from collections import Counter

import pytest
import sqlalchemy as sa

from iris_flower_prediction.api import kept
from iris_flower_prediction.api.kept import Delivery, predictions
from iris_flower_prediction.api.spool import REFUSED, Spool, segments
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.tables.databases import connect
from iris_flower_prediction.tables.migrate import ensure

pytestmark = pytest.mark.slow

# Two workers of the API run at a time; each is killed after a while and replaced. They keep
# predictions of two rows each, and then write the request's id to a file of their own.
KILLS = 30
WORKERS = """
import os, random, sys, threading, time
from pathlib import Path
from iris_flower_prediction.api.kept import Delivery
from iris_flower_prediction.api.spool import Spool

folder, database, said, record, kills = Path(sys.argv[1]), *sys.argv[2:]
end = time.monotonic() + 60

def work(name):
    file = os.open(Path(said, str(name)), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    spool = Spool(folder, 100_000_000)
    delivery, number = Delivery(folder, database), 0
    def deliver():
        while True:
            delivery.step(now=True)
            time.sleep(0.01)
    threading.Thread(target=deliver, daemon=True).start()
    while time.monotonic() < end:
        request_id = f"{name}-{number}"
        if spool.append(record.replace("?", request_id).encode() + b"\\n"):
            os.write(file, request_id.encode() + b"\\n")
        number += 1
        if number % 20 == 0:
            spool.tick()
            time.sleep(0.005)

def start(name):
    process = os.fork()
    if process == 0:
        try:
            work(name)
        finally:
            os._exit(1)
    return process

dice = random.Random(0)
workers = [start(0), start(1)]
for name in range(2, int(kills) + 2):
    time.sleep(dice.uniform(0, 0.3))
    os.kill(workers.pop(0), 9)
    if name < int(kills):
        workers.append(start(name))
    assert os.WTERMSIG(os.wait()[1]) == 9
"""


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request, tmp_path):
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/predictions.db"
    return request.getfixturevalue("postgresql")


def line(request_id, rows=1, **changed):
    answers = {"boolean": True, "date": "2020-01-31"}
    answer = [*CONTRACT.target.allowed, answers.get(CONTRACT.target.type, 2)][0]
    record = {
        "request_id": request_id,
        "time": 1_600_000_000.25,
        "client": "shop",
        "model": "flowers",
        "version": "7",
        "inputs": {"A": [row + 0.5 for row in range(rows)], "B": ["é\u0000"] * rows},
        "predictions": [answer] * rows,
        "probabilities": [0.1] * rows,
    }
    return json.dumps(record | changed) + "\n"


def stored(url):
    """How many rows of each request are stored."""
    with connect(url) as connection:
        return Counter(connection.scalars(sa.select(predictions.c.request_id)))


def deliver(folder, url):
    """Deliver what dead workers have left."""
    Delivery(folder, url).deliver()
    assert segments(folder) == []


def test_killed_workers_lose_nothing_and_store_nothing_twice(database, project, tmp_path):
    folder, said = tmp_path / "spool", tmp_path / "said"
    said.mkdir()
    script = project.folder / "workers.py"
    script.write_text(WORKERS)
    done = project.run(script, folder, database, said, line("?", rows=2).strip(), KILLS)
    assert done.returncode == 0, done.stderr
    deliver(folder, database)
    # An id without a line end may be incomplete.
    promised = {name for file in said.iterdir() for name in file.read_text().split("\n")[:-1]}
    found = stored(database)
    assert set(found.values()) == {2}
    assert promised <= set(found)
    # A worker may be killed after it has kept a prediction and before it writes the id.
    assert len(set(found) - promised) <= KILLS
    assert len(promised) > 20 * KILLS


@pytest.mark.usefixtures("postgresql")  # the server's, empty
def test_a_server_that_stops_delays_but_loses_nothing(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(kept, "RETRY_SECONDS", 0)
    spool, events = Spool(tmp_path / "spool", 1_000_000), []
    delivery = Delivery(tmp_path / "spool", server.url, lambda *event: events.append(event))

    def keep(first):
        for number in range(first, first + 300):
            assert spool.append(line(str(number), rows=3).encode())
            if number % 30 == 0:
                spool.tick()
                delivery.step()

    keep(0)
    assert ("failed", 1) not in events
    server.stop()
    try:
        keep(300)
        assert events.count(("failed", 1)) >= 2
    finally:
        server.start()
    keep(600)
    spool.close()
    delivery.deliver()
    assert stored(server.url) == {str(number): 3 for number in range(900)}
    assert sum(count for event, count in events if event == "delivered") == 2700
    assert len([each for each in caplog.records if "predictions wait" in each.message]) == 1


def test_types_arrive_as_they_are(postgresql, tmp_path):
    spool = Spool(tmp_path, 1_000_000)
    spool.append(line("a", rows=2).encode() + line("b", probabilities=None).encode())
    spool.close()
    deliver(tmp_path, postgresql)
    with connect(postgresql) as connection:
        first, second, third = connection.execute(sa.select(predictions).order_by("id"))
    assert (first.row, second.row, third.row) == (0, 1, 0)
    assert first.predicted_at.timestamp() == 1_600_000_000.25
    assert second.inputs == {"A": 1.5, "B": "é\u0000"}
    assert second.prediction == kept.read(line("a").encode()).predictions[0]
    assert (second.probability, third.probability) == (0.1, None)


def test_what_the_server_refuses_is_set_aside(postgresql, tmp_path, caplog):
    with connect(postgresql) as connection:
        ensure(connection, postgresql, CONTRACT.target)
        connection.execute(sa.text("ALTER TABLE kept_predictions ADD CHECK (client <> 'nobody')"))
    spool = Spool(tmp_path, 1_000_000)
    for client in ("shop", "nobody", "shop\0"):
        spool.append(line(client, client=client).encode())
        spool.close()
    deliver(tmp_path, postgresql)
    assert stored(postgresql) == {"shop": 1, "shop\N{REPLACEMENT CHARACTER}": 1}
    assert len(list((tmp_path / REFUSED).iterdir())) == 1
    assert "violates check constraint" in caplog.text and "0.5" not in caplog.text
