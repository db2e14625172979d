"""The API as a real process that listens on this machine."""

import http.client
import itertools
import json
import secrets
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import PACKAGE, SECONDS, Project, free_port, wait_for

from iris_flower_prediction.api.openapi import example_of
from iris_flower_prediction.contract import CONTRACT


def example(rows: int = 1) -> dict:
    """A request that keeps the contract."""
    return {"data": {column.name: [example_of(column)] * rows for column in CONTRACT.columns}}


class Answer:
    """What the API answered: status, headers (names in lower case), and the body."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


class Api:
    """A running ``serve`` of a project; its output goes to ``output``."""

    def __init__(self, project: Project, *words: object, **chosen: object) -> None:
        self.project, self.port = project, free_port()
        (project.folder / "log").mkdir(exist_ok=True)
        self.output = project.folder / f"output-{self.port}.txt"
        with self.output.open("w") as file:
            self.process = project.start(
                *("serve", "--port", self.port, *words), stdout=file, stderr=file, **chosen
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> "Api":
        wait_for(self.is_ready, self.process)
        return self

    def is_ready(self) -> bool:
        try:
            return self.get("/health/ready").status == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: bytes | None, headers: dict) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, content, **headers: str) -> Answer:
        """Bytes as they are, anything else as JSON; headers with _ for -."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, body, {"Content-Type": "application/json"} | given)

    def metrics(self) -> dict[str, float]:
        """Every series of /metrics by its name with labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        pairs = [line.rpartition(" ") for line in lines if line and line[0] != "#"]
        return {series: float(value) for series, _, value in pairs}

    def logs(self) -> list[dict]:
        """The lines of its log so far."""
        # The last line may be incomplete; str.splitlines would also split at other characters.
        lines = self.output.read_text("utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self) -> int:
        """End it in order; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


class Clients:
    """Threads that ask for predictions, each on a connection of its own, until they are stopped.

    ``answers`` has for the id of each request its answer, or None where the connection ended before
    the answer was whole. ``refused`` counts tries to connect that failed: nothing was sent.
    """

    def __init__(self, api: Api, count: int = 6, path: str = "/predict") -> None:
        self.api, self.path, self.body = api, path, json.dumps(example()).encode()
        self.answers: dict[str, Answer | None] = {}
        self.refused = 0
        self.suffix = secrets.token_hex(4)
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    @property
    def answered(self) -> list[str]:
        """The ids of the requests with a prediction."""
        found = self.answers.copy().items()
        return [id for id, answer in found if answer and answer.status == 200]

    @property
    def lost(self) -> int:
        return sum(answer is None for answer in self.answers.values())

    @property
    def statuses(self) -> Counter:
        return Counter(answer.status for answer in self.answers.copy().values() if answer)

    def wait_for_more(self, count: int = 100) -> None:
        """Wait until ``count`` more requests have been answered."""
        before = len(self.answered)
        wait_for(lambda: len(self.answered) >= before + count)

    def __str__(self) -> str:
        return (
            f"{len(self.answers) + self.refused} sent, {len(self.answers)} accepted, "
            f"{self.statuses.total()} answered {dict(self.statuses)}, {self.lost} lost"
        )

    def _ask(self, number: int) -> None:
        connection = None
        for count in itertools.count():
            if self._ending.is_set():
                break
            try:
                connection = connection or self._connect()
            except OSError:
                self.refused += 1
                time.sleep(0.01)
                continue
            if not self._ask_once(connection, f"{number}-{count}-{self.suffix}"):
                connection.close()
                connection = None
        if connection:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.api.port, timeout=30)
        connection.connect()
        return connection

    def _ask_once(self, connection: http.client.HTTPConnection, id: str) -> bool:
        """Returns whether the connection can be used again."""
        headers = {"Content-Type": "application/json", "X-Request-Id": id}
        self.answers[id] = None
        try:
            connection.request("POST", self.path, self.body, headers)
            response = connection.getresponse()
            self.answers[id] = Answer(response)
        except (OSError, http.client.HTTPException):
            return False
        return not response.will_close


@pytest.fixture(scope="session")
def champion(trained) -> Path:
    """The champion of the trained project in a folder."""
    folder = trained.folder / "champion"
    if not folder.exists():
        copied = trained.run("copy", f"models:/{PACKAGE}@champion", folder)
        assert copied.returncode == 0, copied.stderr
    return folder


@pytest.fixture
def serve(project, champion):
    """serve(*words, **settings): a ready API of this test's own project."""
    apis = []

    def start(*words: object, model: Path | str = champion, **chosen: object) -> Api:
        apis.append(Api(project, "--model", model, *words, **chosen))
        return apis[-1].wait_until_ready()

    yield start
    for api in apis:
        api.process.kill()


@pytest.fixture(scope="session")
def shared_project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("shared") / "project")
    yield project
    project.stop()


@pytest.fixture(scope="session")
def api(shared_project, champion) -> Api:
    """An API without authentication that tests share: they change nothing in it."""
    return Api(shared_project, "--model", champion).wait_until_ready()
