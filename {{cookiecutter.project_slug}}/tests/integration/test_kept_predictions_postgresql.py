"""Predictions kept in a real PostgreSQL, by processes that are killed and servers that stop."""

import json
import random
import time
from collections import Counter

import pytest
import sqlalchemy as sa
from conftest import wait_for

from {{ cookiecutter.__package_name }} import delivery
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.databases import connect
from {{ cookiecutter.__package_name }}.delivery import Delivery, predictions
from {{ cookiecutter.__package_name }}.spool import REFUSED, Spool, sealed

# A worker of the API: it keeps predictions of two rows, and says so once they are kept.
WORKER = """
import sys, time
from pathlib import Path
from {{ cookiecutter.__package_name }}.delivery import Delivery
from {{ cookiecutter.__package_name }}.spool import Spool

folder, database, name, record = sys.argv[1:]
spool = Spool(Path(folder), 100_000_000)
delivery = Delivery(Path(folder), database, lambda *_: None)
delivery.start()
for number in range(1_000_000):
    request_id = f"{name}-{number}"
    if spool.append(record.replace("?", request_id).encode() + b"\\n", 1):
        print(request_id, flush=True)
    if number % 20 == 0:
        spool.seal()
        delivery.wake()
        time.sleep(0.005)
"""


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request, tmp_path):
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/predictions.db"
    url = request.getfixturevalue("postgresql")
    empty(url)
    return url


def empty(url):
    with connect(url) as connection:
        delivery.metadata.drop_all(connection)


def line(request_id, rows=1, **changed):
    stored = {
        "boolean": True,
        "date": "2020-01-31",
        "category": (CONTRACT.target.allowed or [0])[0],
    }
    record = {
        "request_id": request_id,
        "time": 1_600_000_000.25,
        "client": "shop",
        "model": "flowers",
        "version": "7",
        "inputs": {"A": [row + 0.5 for row in range(rows)], "B": ["é\u0000"] * rows},
        "predictions": [stored.get(CONTRACT.target.type, 2)] * rows,
        "probabilities": [0.1] * rows,
    }
    return json.dumps(record | changed) + "\n"


def stored(url):
    """How many rows of each request are stored."""
    with connect(url) as connection:
        return Counter(connection.scalars(sa.select(predictions.c.request_id)))


def deliver(folder, url):
    """Deliver what dead workers have left."""
    Spool(folder, 1_000_000_000).close()
    last = Delivery(folder, url, lambda *_: None)
    last.start()
    last.stop(60)
    assert sealed(folder) == []


def test_killed_workers_lose_nothing_and_store_nothing_twice(database, project, tmp_path):
    script, folder = project.folder / "worker.py", tmp_path / "spool"
    script.write_text(WORKER)
    said, kills = [], 12
    dice = random.Random(0)  # noqa: S311 - no secret

    def start(number):
        said.append(tmp_path / f"said-{number}")
        words = (folder, database, number, line("?", rows=2).strip())
        with said[-1].open("w") as file:
            process = project.start(script, *words, stdout=file)
        wait_for(said[-1].read_text, process)
        return process

    workers = [start(0), start(1)]
    for number in range(2, kills):
        time.sleep(dice.uniform(0, 0.3))
        workers[0].kill()
        workers[0].wait(60)
        workers = [workers[1], start(number)]
    for worker in workers:
        worker.kill()
        worker.wait(60)
    deliver(folder, database)
    # Without its line end the last word may be torn.
    kept = {name for file in said for name in file.read_text().split("\n")[:-1]}
    found = stored(database)
    assert set(found.values()) == {2}
    assert kept <= set(found)
    # A worker may be killed after it has kept one and before it can say so.
    assert len(set(found) - kept) <= kills
    assert len(kept) > 20 * kills


def test_a_server_that_stops_delays_but_loses_nothing(server, tmp_path, monkeypatch, caplog):
    empty(server.url)
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "LONGEST_RETRY_SECONDS", 0.2)
    spool, events = Spool(tmp_path / "spool", 1_000_000), []
    running = Delivery(tmp_path / "spool", server.url, lambda *event: events.append(event))
    running.start()

    def keep(first):
        for number in range(first, first + 300):
            assert spool.append(line(str(number), rows=3).encode(), 1)
            if number % 30 == 0:
                spool.seal()
                running.wake()
            time.sleep(0.001)

    keep(0)
    wait_for(lambda: any(event == "delivered" for event, _ in events))
    server.stop()
    try:
        keep(300)
        wait_for(lambda: events.count(("failed", 1)) >= 2)
        assert sealed(tmp_path / "spool")
    finally:
        server.start()
    keep(600)
    spool.close()
    running.stop(60)
    assert stored(server.url) == {str(number): 3 for number in range(900)}
    assert sum(count for event, count in events if event == "delivered") == 2700
    assert len([each for each in caplog.records if "predictions wait" in each.message]) == 1


def test_types_arrive_as_they_are(postgresql, tmp_path):
    empty(postgresql)
    spool = Spool(tmp_path, 1_000_000)
    spool.append(line("a", rows=2).encode() + line("b", probabilities=None).encode(), 2)
    spool.close()
    deliver(tmp_path, postgresql)
    with connect(postgresql) as connection:
        first, second, third = connection.execute(sa.select(predictions).order_by("id"))
    assert (first.row, second.row, third.row) == (0, 1, 0)
    assert first.predicted_at.timestamp() == 1_600_000_000.25
    assert second.inputs == {"A": 1.5, "B": "é\u0000"}
    assert second.prediction == delivery.read(line("a").encode()).predictions[0]
    assert (second.probability, third.probability) == (0.1, None)


def test_what_the_server_refuses_is_set_aside(postgresql, tmp_path):
    empty(postgresql)
    spool = Spool(tmp_path, 1_000_000)
    # PostgreSQL stores no such character in a text.
    for client in ("shop", "\u0000", "shop"):
        spool.append(line(client, client=client).encode(), 1)
        spool.seal()
    spool.close()
    deliver(tmp_path, postgresql)
    assert stored(postgresql) == {"shop": 2}
    assert len(list((tmp_path / REFUSED).iterdir())) == 1
