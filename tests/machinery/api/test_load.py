"""More load than the API can take: it sheds what is too much at once, and keeps its promises.

Each test tells how many requests were sent, answered and lost. LOAD_SECONDS makes it longer.
"""

import json
import os
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from api_process import Clients, example
from conftest import wait_for
from pressure import pressure
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from iris_flower_prediction import model
from iris_flower_prediction.models import export

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("LOAD_SECONDS") or 5)
# Seconds within which an accepted request is answered, for 99 of 100: the objective. In a short
# time one pause of a busy machine is more than one in a hundred.
OBJECTIVE = 0.5
SHARE = 0.99 if SECONDS > 30 else 0.9
MEGABYTE = 1 << 20
# A transformer as a user may write it, that no exporter knows. In a project with a file `seconds`
# it takes so many.
SLOW = """

import time
from pathlib import Path

from sklearn.base import BaseEstimator, TransformerMixin


class Slow(TransformerMixin, BaseEstimator):
    def fit(self, features, target=None):
        self.n_features_in_ = features.shape[1]
        return self

    def transform(self, features):
        if Path("seconds").exists():
            time.sleep(float(Path("seconds").read_text()))
        return features
"""


def request(rows: int = 1, *headers: str) -> bytes:
    body = json.dumps(example(rows)).encode()
    head = ["POST /predict HTTP/1.1", "Host: here", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "\r\n"]).encode() + body


def put_load(api, content: bytes, connections: int, seconds: float):
    return pressure("127.0.0.1", api.port, content, connections, seconds)


def memory(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


@pytest.mark.parametrize("workers", [1, 2])
def test_twice_the_load_is_shed_and_the_rest_is_answered_in_time(serve, workers):
    """Connections never pause, so twice as many as may be in flight are twice the load."""
    limit = 8
    api = serve("--workers", workers, APP__API__MAX_IN_FLIGHT=limit, APP__KEEPING__SPOOL_MB=2000)
    put_load(api, request(200), limit, 1)
    wait_for(lambda: api.metrics().get("predictions_kept_total"))  # all has been used once
    with ThreadPoolExecutor() as thread:
        connections = 4 * limit * workers
        running = thread.submit(put_load, api, request(200), connections, SECONDS / workers)
        samples = []
        while not running.done():
            samples.append(memory(psutil.Process(api.process.pid)))
            time.sleep(0.1)
    outcome = running.result()
    half = len(samples) // 2
    first, second = max(samples[half // 2 : half]), statistics.median(samples[half:])
    print(f"{workers} workers: {outcome}; {first >> 20} MB, then {int(second) >> 20} MB")
    assert outcome.lost == outcome.unanswered == outcome.connection_errors == 0
    assert outcome.sent == outcome.answered
    assert set(outcome.statuses) == {200, 503}
    assert outcome.latency(SHARE, 200) < OBJECTIVE
    assert second < first + 8 * MEGABYTE
    # Requests beyond the limit are refused at once.
    assert outcome.latency(SHARE, 503) < OBJECTIVE
    problem = 'http_errors_total{code="overload",route="/predict",status_class="5xx"}'
    assert wait_for(lambda: api.metrics()[problem] == outcome.statuses[503])


def test_who_is_shed_is_told_when_to_try_again(serve_slowly):
    api = serve_slowly(1, APP__API__MAX_IN_FLIGHT=1)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: api.post("/predict", example()), range(4)))
    shed = [answer for answer in found if answer.status == 503]
    assert 1 <= len(shed) <= 3 and {answer.status for answer in found} == {200, 503}
    for answer in shed:
        assert answer.json["code"] == "overload" and answer.headers["retry-after"] == "1"


@pytest.fixture
def serve_slowly(serve, project, fitted, matrix, target, config, monkeypatch):
    """serve_slowly(seconds, **settings): an API whose model takes so long for each call."""
    file = next((project.folder / "src").glob("*/model.py"))
    file.write_text(file.read_text("utf-8") + SLOW, "utf-8")
    namespace: dict = {"__name__": model.__name__}
    exec(SLOW, namespace)  # noqa: S102 - the same class in this process, as if in model.py
    monkeypatch.setattr(model, "Slow", namespace["Slow"], raising=False)
    estimator = make_pipeline(namespace["Slow"](), clone(fitted))
    estimator.fit(matrix, fitted.predict(matrix))
    folder = project.folder / "slow"
    saved = export.save(estimator, folder, matrix, target, matrix, config)
    assert saved["artifact"] == "model.skops"

    def start(seconds: float, **chosen: object):
        taking = project.folder / "seconds"
        # The model is fast while the API starts, as its self-test would take long.
        taking.write_text("0.01")
        api = serve(model=folder, **chosen)
        taking.write_text(str(seconds))
        return api

    return start


def test_a_slow_model_holds_up_nobody_who_watches(serve_slowly):
    api = serve_slowly(0.1)
    lives, ending = [], threading.Event()

    def watch():
        while not ending.wait(0.02):
            began = time.perf_counter()
            assert api.get("/health/live").status == 200
            lives.append(time.perf_counter() - began)

    with ThreadPoolExecutor() as thread:
        watching = thread.submit(watch)
        try:
            outcome = put_load(api, request(), 8, 4)
        finally:
            ending.set()
        watching.result()
    late = statistics.quantiles(lives, n=10)[8]
    print(f"slow model: {outcome}; health within {late * 1000:.0f} ms for 9 of 10")
    assert set(outcome.statuses) == {200} and outcome.lost == outcome.unanswered == 0
    assert late < 0.5 * OBJECTIVE


def test_a_model_that_takes_too_long_is_not_waited_for(serve_slowly):
    api = serve_slowly(5, APP__API__PREDICTION_SECONDS=0.4)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: api.post("/predict", example()), range(8)))
    print(f"hanging model: {len(found)} answered within {time.monotonic() - began:.1f} s")
    assert {answer.status for answer in found} == {503}
    for answer in found:
        assert answer.json["code"] == "model_timeout" and answer.headers["retry-after"]
    assert api.get("/health/live").status == 200
    assert api.stop() == 0


def test_requests_that_a_slow_model_has_begun_are_answered_at_the_end(serve_slowly):
    api = serve_slowly(0.3)
    with Clients(api, 4) as clients:
        wait_for(lambda: len(clients.answers) >= 8)
        assert api.stop() == 0
    print(f"SIGTERM with a slow model: {clients}")
    assert clients.lost == 0 and set(clients.statuses) == {200}


def test_the_end_does_not_wait_for_a_model_that_hangs(serve_slowly):
    api = serve_slowly(600, APP__API__SHUTDOWN_SECONDS=1, APP__API__PREDICTION_SECONDS=600)
    with socket.create_connection(("127.0.0.1", api.port), 30) as client:
        client.sendall(request())
        wait_for(lambda: api.metrics()["http_requests_in_flight"] >= 1)
        began = time.monotonic()
        api.stop()
        assert client.recv(1000) == b""
    assert time.monotonic() - began < 60
