"""A real Prometheus scrapes a real API, records the objectives, and a real Alertmanager is told."""

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pandas as pd
import pytest
from api_process import Api, Clients
from conftest import CHECKOUT, PACKAGE, free_port, listens, wait_for

from iris_flower_prediction.contract import CONTRACT

PROGRAMS = (
    "prometheus",
    "promtool",
    "prometheus-alertmanager",
    "amtool",
    "prometheus-node-exporter",
)
# Refused by the contract.
WRONG = {"data": {name: [-1] for name in CONTRACT.names}}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)),
        reason="apt-get install prometheus prometheus-alertmanager prometheus-node-exporter",
    ),
]


class Webhook(ThreadingHTTPServer):
    """Whoever is told of alerts: ``told`` has the path and the alert's name and state."""

    def __init__(self) -> None:
        self.told: set[tuple[str, str, str]] = set()
        super().__init__(("127.0.0.1", 0), Receiver)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in body["alerts"]:
            self.server.told.add((self.path, alert["labels"]["alertname"], alert["status"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


class Prometheus:
    """Prometheus and Alertmanager with the configuration of a project, only faster."""

    def __init__(self, project: Path, target: int, exporter: int, webhook: int) -> None:
        self.port, self.alertmanager = free_port(), free_port()
        folder = project / "deploy" / "monitoring"
        for name in ("prometheus.yml", "alertmanager.yml", "dashboard.json"):
            shutil.copy(CHECKOUT / "deploy" / "monitoring" / name, folder)
        exported = f'"127.0.0.1:{target}", "127.0.0.1:{exporter}"'
        replace(
            folder / "prometheus.yml",
            {
                ": 15s": ": 1s",
                "127.0.0.1:9093": f"127.0.0.1:{self.alertmanager}",
                '"127.0.0.1:8000"': exported,
            },
        )
        replace(
            folder / "alertmanager.yml",
            {"127.0.0.1:9095": f"127.0.0.1:{webhook}", "wait: 10s": "wait: 0s", ": 30s": ": 0s"}
            | {": 5m": ": 1s"},
        )
        check("promtool", "check", "config", folder / "prometheus.yml")
        check("amtool", "check-config", folder / "alertmanager.yml")
        self.processes = [
            start("prometheus", folder, "tsdb.path", f"--web.listen-address=127.0.0.1:{self.port}"),
            start(
                *("prometheus-alertmanager", folder, "path"),
                f"--web.listen-address=127.0.0.1:{self.alertmanager}",
                "--cluster.listen-address=",
            ),
        ]

    def query(self, text: str) -> list[dict]:
        address = f"http://127.0.0.1:{self.port}/api/v1/query?{urlencode({'query': text})}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                found = json.load(answer)
        except OSError as error:
            assert not hasattr(error, "code"), f"{text}: {error}"
            return []  # it has not started yet
        return found["data"]["result"]

    def require_data(self, text: str) -> None:
        """Of a query of the dashboard, whose variables Grafana replaces."""
        for name, value in {"rate_interval": "30s", "range": "2m", "interval": "2m"}.items():
            text = text.replace(f"$__{name}", value)
        until = time.monotonic() + 60
        while all(each["value"][1] == "NaN" for each in self.query(text)):
            assert time.monotonic() < until, f"no data: {text}"
            time.sleep(0.5)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def replace(file: Path, words: dict[str, str]) -> None:
    text = file.read_text()
    for old, new in words.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def check(program: str, *words: object) -> None:
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def start(program: str, folder: Path, storage: str, *words: str) -> subprocess.Popen:
    name = program.removeprefix("prometheus-")
    options = [f"--config.file={folder / name}.yml", f"--storage.{storage}={folder / name}"]
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen([program, *options, *words], stdout=log, stderr=log, cwd=folder)


def dashboard(project: Path) -> dict:
    return json.loads((project / "deploy" / "monitoring" / "dashboard.json").read_text())


@pytest.fixture
def scored(copied) -> Path:
    """A project that has scored, labelled and monitored its example, and published gauges."""
    folder, textfiles = copied.folder, copied.folder / "textfiles"
    textfiles.mkdir()
    settings = {"APP__MONITORING__TEXTFILE": textfiles / "model.prom"}
    table = pd.concat([pd.read_csv(folder / "data/raw/example.csv")] * 2)
    table.to_csv(folder / "data/raw/many.csv", index=False)
    words = ("score", "--input", "data/raw/many.csv", "--run-id", "many")
    assert copied.run(*words).returncode == 0
    predicted = pd.concat(
        map(pd.read_parquet, (folder / "data/predictions/many").glob("*.parquet"))
    )
    labels = predicted[["run_id", "source", "row"]].assign(SPECIES=predicted["prediction"])
    labels.to_csv(folder / "data/labels.csv", index=False)
    assert copied.run("labels", "import", "data/labels.csv").returncode == 0
    done = copied.run("run", "metrics", **settings)
    assert done.returncode == 0, done.stderr
    assert (textfiles / "model.prom").exists()
    return copied


def test_errors_and_slow_answers_reach_whoever_is_told(scored, champion):
    assert scored.run("slo", APP__SLO__LATENCY_SECONDS=0.001).returncode == 0
    webhook, exporter = Webhook(), free_port()
    node = subprocess.Popen(
        [
            *("prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile"),
            f"--collector.textfile.directory={scored.folder / 'textfiles'}",
            f"--web.listen-address=127.0.0.1:{exporter}",
        ],
        stderr=subprocess.DEVNULL,
    )
    api = Api(scored, "--model", champion, APP__API__MAX_IN_FLIGHT=1).wait_until_ready()
    prometheus = Prometheus(scored.folder, api.port, exporter, webhook.server_port)
    try:
        assert api.post("/predict", WRONG).status == 422
        with Clients(api, 8):
            pages = {("/page", name, "firing") for name in ("Availability", "Latency")}
            wait_for(lambda: pages <= webhook.told)
            for panel in dashboard(scored.folder)["panels"]:
                for target in panel["targets"]:
                    prometheus.require_data(target["expr"])
            for event in dashboard(scored.folder)["annotations"]["list"]:
                prometheus.require_data(event["expr"])
            url = f"http://127.0.0.1:{prometheus.port}"
            told = scored.run("status", "--json", APP__MONITORING__PROMETHEUS=url)
            budgets = json.loads(told.stdout)["budgets"]
            assert budgets.keys() == {"availability", "latency", "freshness"}
            assert budgets["availability"] < 0 < budgets["freshness"] == 1
        instances = {
            each["metric"]["instance"] for each in prometheus.query("model_window_end_seconds")
        }
        assert instances == {f"127.0.0.1:{port}" for port in (api.port, exporter)}
        assert not {name for _, name, _ in webhook.told} & {"Freshness", "TargetDown"}
        api.process.kill()
        api.process.wait()
        wait_for(lambda: not listens(api.port))
        [down] = wait_for(lambda: prometheus.query(f'up{{job="{PACKAGE}"}} == 0'))
        assert down["metric"]["instance"] == f"127.0.0.1:{api.port}"
    finally:
        prometheus.stop()
        node.kill()
        node.wait()
        api.process.kill()
        webhook.shutdown()
