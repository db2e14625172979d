"""The servers: the command that starts each, and the format of its requests and answers."""

import functools
import json
import os
from typing import Any, ClassVar, NamedTuple

from environments import BUILD, HERE, MODELS, PACKAGE, PROJECT, SERVING, Command, call, python

# uvicorn is faster with these two; not every peer installs them.
FASTER = ("uvloop", "httptools")
COLUMNS = ("SEPAL_LENGTH", "SEPAL_WIDTH", "PETAL_LENGTH", "PETAL_WIDTH")
Rows = list[list[float]]


class Start(NamedTuple):
    model: str
    ports: tuple[int, int, int]
    workers: int
    access_log: bool


class Peer:
    """A server; most of the methods suit most servers."""

    name = ""
    environment = ""
    packages: tuple[str, ...] = ()
    path = "/predict"
    folder = BUILD
    headers: ClassVar[dict[str, str]] = {}

    def settings(self, start: Start) -> dict[str, str]:
        return {"MODEL": str(MODELS / f"{start.model}.joblib"), "WORKERS": str(start.workers)}

    def body(self, rows: Rows) -> dict:
        return {"rows": rows}

    def labels(self, answer: Any) -> list:
        return answer["predictions"]

    def uvicorn(self, app: str, start: Start) -> Command:
        port, workers = str(start.ports[0]), str(start.workers)
        log = "--access-log" if start.access_log else "--no-access-log"
        spared = ["--no-proxy-headers", "--no-server-header", log]
        options = ["--app-dir", HERE, "--port", port, "--workers", workers]
        return [python(self.environment), "-m", "uvicorn", app, *options, *spared]


class Ours(Peer):
    """The rendered project, with validation, metrics and authentication."""

    name = "ours"
    environment = SERVING
    folder = PROJECT

    def command(self, start: Start) -> Command:
        options = ["--model", MODELS / start.model, "--port", str(start.ports[0])]
        return [python(SERVING), "-m", PACKAGE, "serve", *options]

    def settings(self, start: Start) -> dict[str, str]:
        return {
            "PYTHONPATH": "src",
            "APP__AUTHENTICATION__REQUIRED": "true",
            "APP__API__WORKERS": str(start.workers),
            "APP__API__ACCESS_LOG": str(start.access_log).lower(),
        }

    @functools.cached_property
    def headers(self) -> dict[str, str]:
        create = ["-m", PACKAGE, "api-key", "create", "bench"]
        return {"X-API-Key": call(python(SERVING), *create, cwd=PROJECT, PYTHONPATH="src").strip()}

    def body(self, rows: Rows) -> dict:
        columns = zip(*rows, strict=True)
        return {"model": PACKAGE, "data": dict(zip(COLUMNS, map(list, columns), strict=True))}


class Empty(Peer):
    """It runs in our environment, so that framework and server are the same."""

    name = "empty endpoint"
    environment = SERVING
    body = Ours.body

    def command(self, start: Start) -> Command:
        port, workers = str(start.ports[0]), str(start.workers)
        options = ["--interface", "asgi", "--no-ws", "--http", "1", "--no-log"]
        options += ["--working-dir", HERE, "--port", port, "--workers", workers]
        return [python(SERVING), "-m", "granian", *options, "empty:app"]

    def labels(self, answer: Any) -> None:  # noqa: ARG002 - the same for every request
        return None


class Tutorial(Peer):
    name = "tutorial"
    environment = "tutorial"
    packages = ("fastapi[standard]", "pandas")

    def command(self, start: Start) -> Command:
        return self.uvicorn("tutorial:app", start)

    def settings(self, start: Start) -> dict[str, str]:
        return {"MODEL": str(MODELS / f"{start.model}-names.joblib")}

    def body(self, rows: Rows) -> dict:
        return {"flowers": [dict(zip(COLUMNS, row, strict=True)) for row in rows]}


class MLflow(Peer):
    name = "mlflow models serve"
    environment = "mlflow"
    packages = ("mlflow>=3.17,<3.18", "skops", *FASTER)
    path = "/invocations"

    def command(self, start: Start) -> Command:
        served = ["--model-uri", MODELS / f"{start.model}-mlflow", "--env-manager", "local"]
        options = ["--port", str(start.ports[0]), "--workers", str(start.workers)]
        return [python("mlflow").with_name("mlflow"), "models", "serve", *served, *options]

    def settings(self, start: Start) -> dict[str, str]:
        return {
            "PATH": f"{python('mlflow').parent}:{os.environ['PATH']}",
            "UVICORN_ACCESS_LOG": str(start.access_log).lower(),
        }

    def body(self, rows: Rows) -> dict:
        return {"inputs": Ours.body(self, rows)["data"]}


class BentoML(Peer):
    environment = "bentoml"
    packages = ("bentoml==1.4.40", *FASTER)

    def __init__(self, batching: bool) -> None:
        self.batching = batching
        self.name = "BentoML, batching" if batching else "BentoML"

    def command(self, start: Start) -> Command:
        service = "with_bentoml:Batching" if self.batching else "with_bentoml:Single"
        options = ["--host", "127.0.0.1", "--port", str(start.ports[0]), "--working-dir", HERE]
        return [python("bentoml").with_name("bentoml"), "serve", service, *options]

    def labels(self, answer: Any) -> list:
        return answer


class MLServer(Peer):
    environment = "mlserver"
    packages = ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop<0.22", "httptools")
    path = "/v2/models/iris/infer"

    def __init__(self, batching: bool) -> None:
        self.batching = batching
        self.name = "MLServer, batching" if batching else "MLServer"

    def command(self, start: Start) -> Command:
        """Write its two settings files; its workers are processes in addition to the server."""
        http, grpc, metrics = start.ports
        server = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc}
        server |= {"metrics_port": metrics, "parallel_workers": start.workers, "debug": False}
        model = {"name": "iris", "implementation": "mlserver_sklearn.SKLearnModel"}
        model |= {"parameters": {"uri": self.settings(start)["MODEL"]}}
        if self.batching:
            model |= {"max_batch_size": 16, "max_batch_time": 0.005}
        folder = BUILD / "mlserver"
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(server))
        (folder / "model-settings.json").write_text(json.dumps(model))
        return [python("mlserver").with_name("mlserver"), "start", folder]

    def body(self, rows: Rows) -> dict:
        shape = {"shape": [len(rows), len(COLUMNS)], "datatype": "FP64"}
        return {"inputs": [{"name": "predict", **shape, "data": rows}]}

    def labels(self, answer: Any) -> list:
        return answer["outputs"][0]["data"]


class LitServe(Peer):
    name = "LitServe"
    environment = "litserve"
    packages = ("litserve==0.2.19", "joblib")

    def command(self, start: Start) -> Command:
        script = HERE / "with_litserve.py"
        return [python("litserve"), script, str(start.ports[0]), str(start.workers)]


PEERS = {
    "ours": Ours(),
    "empty": Empty(),
    "tutorial": Tutorial(),
    "litserve": LitServe(),
    "mlserver": MLServer(batching=False),
    "mlserver-batching": MLServer(batching=True),
    "bentoml": BentoML(batching=False),
    "bentoml-batching": BentoML(batching=True),
    "mlflow": MLflow(),
}
