"""The API as a real process that listens on this machine."""

import http.client
import json
import signal
import socket
from pathlib import Path

import pytest
from conftest import PACKAGE, Project, wait_for

from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.openapi import example_of


def example(rows: int = 1) -> dict:
    """A request that keeps the contract."""
    return {"data": {column.name: [example_of(column)] * rows for column in CONTRACT.columns}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
        # The last may not be whole yet, and text has more ends of lines than a log.
        lines = self.output.read_text("utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self) -> int:
        """End it in order; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


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
