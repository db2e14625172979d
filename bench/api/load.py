"""Requests: one at a time, whose answers are checked, and as many as wrk manages."""

import http.client
import itertools
import json
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

from environments import BUILD, MODELS, Failed
from peers import Peer

CONNECTIONS = 16
STARTING = 120.0
SCRIPT = BUILD / "wrk.lua"
DONE = """
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


class Question(NamedTuple):
    body: str
    labels: list


class Client:
    """Speaks one peer's format to a server of it."""

    def __init__(self, peer: Peer, port: int, model: str) -> None:
        self.peer, self.port = peer, port
        self.headers = {"Content-Type": "application/json", **peer.headers}
        known = json.loads((MODELS / "rows.json").read_text())
        self.rows, self.answers = known["rows"], known["answers"][model]

    def question(self, rows: int, first: int = 0) -> Question:
        """``rows`` of the known rows, from the row ``first`` on, and their classes."""
        chosen = [(first + index) % len(self.rows) for index in range(rows)]
        body = json.dumps(self.peer.body([self.rows[index] for index in chosen]))
        return Question(body, [self.answers[index] for index in chosen])

    def ask(self, body: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", self.peer.path, body, self.headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def wait(self, alive: Callable[[], bool]) -> None:
        """Until the first prediction comes back."""
        body, ends = self.question(1).body, time.perf_counter() + STARTING
        answer = "no answer"
        while alive() and time.perf_counter() < ends:
            try:
                status, content = self.ask(body)
            except OSError:
                time.sleep(0.01)
                continue
            if status == 200:
                return
            answer = f"{status} {content[:200]!r}"
            time.sleep(0.01)
        raise Failed(f"did not start: {answer}")

    def check(self, rows: int, first: int = 0) -> None:
        question = self.question(rows, first)
        status, content = self.ask(question.body)
        if status != 200:
            raise Failed(f"answered {status}: {content[:200]!r}")
        labels = self.peer.labels(json.loads(content))
        if labels is not None and labels != question.labels:
            raise Failed(f"wrong answer: {labels[:5]} instead of {question.labels[:5]}")

    def press(self, rows: int, seconds: float, watch: Callable[[], None], every: float) -> dict:
        """Run wrk; meanwhile check other rows' answers and ``watch``, ``every`` so many seconds."""
        lines = [
            f"wrk.headers[{json.dumps(key)}] = {json.dumps(self.headers[key])}"
            for key in self.headers
        ]
        body = f'wrk.method = "POST"\nwrk.body = [==[{self.question(rows).body}]==]'
        SCRIPT.write_text("\n".join([body, *lines, DONE]))
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", SCRIPT]
        url = f"http://127.0.0.1:{self.port}{self.peer.path}"
        with subprocess.Popen(["wrk", *options, url], text=True, stdout=subprocess.PIPE) as wrk:
            for first in itertools.count(1):
                try:
                    output, _ = wrk.communicate(timeout=every)
                    break
                except subprocess.TimeoutExpired:
                    self.check(rows, first)
                    watch()
        figures = json.loads(output.splitlines()[-1])
        if figures["failed"]:
            raise Failed(f"{figures['failed']} of {figures['requests']} requests failed under load")
        return figures | {"rate": figures["requests"] / figures["seconds"]}
