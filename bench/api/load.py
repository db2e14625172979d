"""Requests: single ones whose answers are checked, and load from wrk."""

import http.client
import itertools
import json
import subprocess
import time
from collections.abc import Callable

from environments import BUILD, MODELS, Failed
from peers import Peer

CONNECTIONS = 16
STARTING = 60.0
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


class Client:
    """Sends requests to a server, in its peer's format."""

    def __init__(self, peer: Peer, port: int, model: str) -> None:
        self.peer, self.port = peer, port
        self.headers = {"Content-Type": "application/json", **peer.headers}
        known = json.loads((MODELS / "rows.json").read_text())
        self.rows, self.answers = known["rows"], known["answers"][model]

    def body(self, chosen: list[int]) -> str:
        return json.dumps(self.peer.body([self.rows[row] for row in chosen]))

    def ask(self, chosen: list[int]) -> list | None:
        """The classes that the server predicts for the chosen rows."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", self.peer.path, self.body(chosen), self.headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise Failed(f"answered {response.status}: {content[:200]!r}")
        return self.peer.labels(json.loads(content))

    def wait(self, process: subprocess.Popen) -> None:
        """Wait for the first prediction."""
        ends = time.perf_counter() + STARTING
        while True:
            try:
                self.ask([0])
                return
            except (OSError, Failed):
                if process.poll() is not None or time.perf_counter() > ends:
                    raise
                time.sleep(0.01)

    def check(self, rows: int, first: int = 0) -> None:
        chosen = [(first + row) % len(self.rows) for row in range(rows)]
        labels, right = self.ask(chosen), [self.answers[row] for row in chosen]
        if labels is not None and labels != right:
            raise Failed(f"wrong answer: {labels} instead of {right}")

    def press(
        self, rows: int, seconds: int, every: float = 1.0, watch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Run wrk; ``every`` seconds meanwhile, check answers to other rows and call ``watch``."""
        headers = [f"wrk.headers[{key!r}] = {value!r}" for key, value in self.headers.items()]
        body = f"wrk.body = [==[{self.body(list(range(rows)))}]==]"
        SCRIPT.write_text("\n".join(['wrk.method = "POST"', body, *headers, DONE]))
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", SCRIPT]
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
