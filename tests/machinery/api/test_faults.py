"""What goes wrong around a busy API: it is ended or killed, its database is away, a disk is full.

Each test tells how many requests were sent, accepted, answered and lost.
"""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from api_process import Api, Clients, example
from conftest import SECONDS, wait_for

pytestmark = pytest.mark.slow

DATABASE, SPOOL = "data/project.db", "data/spool"
LIMIT = "http_requests_in_flight_limit"


CLIENTS = 6


def kept(project) -> Counter:
    """How often each request id is in the database."""
    file = project.folder / DATABASE
    if not file.is_file():
        return Counter()
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=30)) as database:
        tables = database.execute("SELECT name FROM sqlite_master").fetchall()
        if ("kept_predictions",) not in tables:
            return Counter()
        return Counter(id for (id,) in database.execute("SELECT request_id FROM kept_predictions"))


def require_each_once(project, clients) -> Counter:
    """Every prediction that a client has seen is in the database, and none is there twice."""
    answered = set(clients.answered)
    found = wait_for(lambda: (ids := kept(project)).keys() >= answered and ids)
    assert set(found.values()) == {1}
    return found


def server(api) -> psutil.Process:
    """The server of an API, below the process that was started."""
    return wait_for(lambda: psutil.Process(api.process.pid).children())[0]


def started_by(api) -> list[psutil.Process]:
    """The server of an API, and then the workers."""
    return psutil.Process(api.process.pid).children(recursive=True)


def workers(api) -> set[int]:
    """The process ids of an API's workers that live."""
    found = set()
    for child in server(api).children():
        with suppress(psutil.Error):  # it has ended
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found


def wait_for_two(api) -> None:
    """Until two workers serve."""
    wait_for(lambda: api.metrics()[LIMIT] == 128)


@pytest.mark.parametrize("count", [1, 2])
def test_sigterm_under_load_loses_nothing(serve, count):
    api = serve("--workers", count)
    with Clients(api, CLIENTS) as clients:
        clients.wait_for_more()
        assert api.stop() == 0
    print(f"SIGTERM, {count} workers: {clients}")
    assert set(clients.statuses) == {200}
    # Requests to a worker that was just closing: not accepted, and a real client sends them again.
    assert clients.lost <= count * CLIENTS
    # Deliver what a busy machine could not deliver before it ended.
    assert api.project.run("deliver").returncode == 0
    assert kept(api.project).keys() == set(clients.answered)
    require_each_once(api.project, clients)
    assert clients.refused, "nobody listens any more"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_ends_is_replaced(serve, number):
    api = serve("--workers", 2)
    wait_for_two(api)
    before = workers(api)
    with Clients(api) as clients:
        clients.wait_for_more()
        os.kill(next(iter(before)), number)
        clients.wait_for_more()
        (new,) = wait_for(lambda: workers(api) - before)
        assert new and len(workers(api)) == 2
        wait_for_two(api)
        clients.wait_for_more()
    print(f"{number.name} of one worker of two: {clients}")
    assert set(clients.statuses) == {200}
    # A killed worker loses one request per connection, and one more if the kernel closes the
    # connection before the socket that listens: the client may connect to it once more. A worker
    # that ends normally closes its connections, and a real client sends its request again.
    assert clients.lost <= 2 * CLIENTS
    assert api.stop() == 0
    require_each_once(api.project, clients)


def test_a_worker_that_starts_ends_at_once(serve):
    api = serve("--workers", 2, APP__API__SHUTDOWN_SECONDS=6 * SECONDS)
    wait_for_two(api)
    before = workers(api)
    os.kill(next(iter(before)), signal.SIGKILL)
    wait_for(lambda: workers(api) - before)
    assert api.stop() == 0


def test_a_worker_that_cannot_be_replaced_does_not_end_the_others(serve, champion, tmp_path):
    folder = shutil.copytree(champion, tmp_path / "model")
    api = serve("--workers", 2, model=folder, APP__API__RELOAD_SECONDS=3600)
    wait_for_two(api)
    before = workers(api)
    (folder / "metadata.json").rename(tmp_path / "away.json")
    os.kill(next(iter(before)), signal.SIGKILL)
    wait_for(lambda: "a worker cannot start" in api.output.read_text())
    (tmp_path / "away.json").rename(folder / "metadata.json")
    wait_for_two(api)
    assert api.post("/predict", example()).status == 200
    assert api.stop() == 0


def test_nothing_stays_of_an_api_whose_worker_cannot_be_replaced(serve, champion, tmp_path):
    folder = shutil.copytree(champion, tmp_path / "model")
    api = serve(model=folder)
    (folder / "metadata.json").unlink()
    (worker,) = workers(api)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: "a worker cannot start" in api.output.read_text())
    left = [server(api), *server(api).children()]
    api.process.kill()
    api.process.wait(SECONDS)
    assert psutil.wait_procs(left, SECONDS)[1] == []


def test_two_apis_at_one_port_of_two_addresses_count_for_themselves(serve, champion):
    api = serve()
    elsewhere = ("--host", "127.0.0.2", "--port", api.port)
    other = Api(api.project, "--model", champion, *elsewhere)
    wait_for(lambda: "Serving" in other.output.read_text())
    assert other.stop() == 0
    assert api.get("/metrics").status == 200


def test_what_was_answered_before_a_kill_is_kept(serve):
    api = serve()
    with Clients(api) as clients:
        clients.wait_for_more(300)
        os.kill(next(iter(workers(api))), signal.SIGKILL)
        api.process.kill()
        api.process.wait(SECONDS)
    wait_for(lambda: not listening(api.port))
    again = serve()
    found = require_each_once(api.project, clients)
    unseen = found.keys() - set(clients.answered)
    print(f"SIGKILL: {clients}; {len(found)} kept")
    # Each client loses the current request, and the next one if it could still connect.
    assert set(clients.statuses) == {200} and clients.lost <= 2 * CLIENTS
    assert len(unseen) <= 6, "kept, and killed before the answer"
    assert again.post("/predict", example()).status == 200


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("which", ["serve", "server"])
def test_all_ends_with_what_was_started(serve, which):
    api = serve("--workers", 2)
    below = started_by(api)
    assert len(below) == 3
    (api.process if which == "serve" else server(api)).kill()
    code = api.process.wait(SECONDS)
    assert code == (-signal.SIGKILL if which == "serve" else 2)
    wait_for(lambda: not any(each.is_running() for each in below))
    assert not listening(api.port)


@pytest.mark.parametrize("seconds", [0.5, 1, 1.5])
def test_workers_that_are_starting_end_with_their_server(project, champion, seconds):
    api = Api(project, "--model", champion, "--workers", 2)
    below = wait_for(lambda: len(of := started_by(api)) == 3 and of)
    time.sleep(seconds)  # the workers import and load the model
    below[0].kill()
    assert api.process.wait(SECONDS) == 2
    wait_for(lambda: not any(each.is_running() for each in below))


def test_predictions_wait_for_a_database_that_is_away(serve):
    api = serve()
    database = api.project.folder / DATABASE
    away = database.with_name("away.db")
    with Clients(api) as clients:
        clients.wait_for_more()
        wait_for(lambda: kept(api.project))
        with halted(api):
            database.rename(away)
            database.mkdir()
        wait_for(lambda: api.metrics().get("predictions_delivery_failures_total"))
        clients.wait_for_more()
        waiting = api.metrics()
        with halted(api):
            database.rmdir()
            away.rename(database)
        clients.wait_for_more()
    print(f"database away: {clients}")
    assert set(clients.statuses) == {200} and clients.lost == 0
    assert waiting.get("predictions_not_kept_total", 0) == 0
    assert require_each_once(api.project, clients).total() == len(clients.answers)
    assert wait_for(lambda: api.metrics()["predictions_spool_bytes"] == 0)


@contextmanager
def halted(api):
    """Block all deliveries to the database meanwhile."""
    delivering = psutil.Process(api.process.pid)
    delivering.suspend()
    try:
        yield
    finally:
        delivering.resume()


@pytest.fixture
def small_disk(project):
    """A disk of 8 MB under the project's spool, log and temporary files."""
    folder = project.folder / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        for name in ("log", "spool", "tmp"):
            (folder / name).mkdir()
        (project.folder / "log").symlink_to(folder / "log")
        yield folder
    finally:
        project.stop()
        run("umount", "--lazy", folder)


def run(*words) -> subprocess.CompletedProcess:
    return subprocess.run([*words], capture_output=True, text=True, timeout=60)


def fill(folder: Path) -> Path:
    """A file that takes all that is left."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(b"\0" * 4096)
            except OSError:
                return file


def test_a_full_disk_costs_the_record_not_the_answer(small_disk, serve, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(small_disk / "tmp"))
    api = serve(APP__KEEPING__SPOOL=small_disk / "spool")
    with Clients(api) as clients:
        clients.wait_for_more()
        filler = fill(small_disk)
        wait_for(lambda: api.metrics().get("predictions_not_kept_total", 0) > 100)
        clients.wait_for_more()
        filler.unlink()
        before = wait_for(lambda: still(lambda: api.metrics()["predictions_not_kept_total"]))
        clients.wait_for_more()
        not_kept = api.metrics()["predictions_not_kept_total"]
    print(f"disk full: {clients}; {not_kept:.0f} not kept")
    assert set(clients.statuses) == {200} and clients.lost == 0
    assert not_kept == before, "once there is room everything is kept again"
    assert api.stop() == 0
    # Deliver what the API could not deliver before it ended.
    assert api.project.run("deliver", APP__KEEPING__SPOOL=small_disk / "spool").returncode == 0
    found = kept(api.project)
    assert set(found.values()) == {1}
    assert len(found) + not_kept == len(clients.answered)


def still(value, seconds: float = 0.5):
    """A value that did not change for some time, else None."""
    first = value()
    time.sleep(seconds)
    return first if value() == first else None
