"""`status`, and the gauges for Prometheus: what was found last, without looking again."""

import json
import re
import sqlite3
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from api_process import Api
from conftest import PACKAGE, wait_for
from prometheus_client.parser import text_string_to_metric_families

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.pipelines.gauges import publish

FIRST = CONTRACT.names[0]


def gauges(text: str) -> dict[tuple, float]:
    """Values by the name of the gauge and its labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(gauge: str, **labels: str) -> tuple:
    return (gauge, *sorted((labels | {"project": PACKAGE}).items()))


def test_nothing_is_known_yet(call):
    text = call("status").stdout
    assert "Not known: " in text
    assert "retraining" in text and "has not run yet" in text
    assert "Newest windows: none" in text
    assert "Open alerts: none" in text


def test_what_runs_and_how_it_went(monitored):
    monitored.score_moved("second")
    monitored.told("monitor")
    text = monitored.told("status")
    assert f"Model: version 1, models:/{PACKAGE}@champion" in text
    assert "version 1, 3,000 predictions" in text
    assert re.search(rf"{FIRST} +PSI [0-9.]+", text)
    assert f"critical, {datetime.now(UTC):%Y-}" in text
    found = json.loads(monitored.told("status", "--json"))
    assert found["model"]["version"] == "1"
    assert found["problems"] == []
    assert {each["name"] for each in found["pipelines"]} == {"prediction", "metrics", "retraining"}
    assert all(each["next"] > found["time"] for each in found["pipelines"])
    [batch] = [each for each in found["windows"] if each["source"] == "batch"]
    assert batch["rows"] == 3000
    assert batch["drift"][FIRST] > 0.25
    assert found["alerts"][0]["evidence"].startswith(FIRST)


@pytest.mark.slow
def test_runs_of_pipelines_are_told(copied):
    assert copied.run("run", "prediction").returncode == 0
    assert re.search(r"prediction +next .*; last .*: done", copied.run("status").stdout)
    missing = {"APP__PIPELINES__TIMEZONE": "UTC", "APP__MONITORING__LABELS": "nowhere.csv"}
    quickly = copied.folder / "src" / PACKAGE / "pipelines" / "definition.py"
    quickly.write_text(quickly.read_text().replace("retries: int = 2", "retries: int = 0"))
    done = copied.run("run", "metrics", **missing)
    assert done.returncode == 1
    assert "step labels of pipeline metrics failed with exit code 2 after 1 try" in done.stderr
    assert re.search(r"metrics +next .*; last .*: labels failed", copied.run("status").stdout)


def test_a_database_of_another_version_is_told(monitored):
    monitored.told("monitor")
    monitored.query(f"UPDATE alembic_version_{PACKAGE} SET version_num = '9999'")
    text = monitored.told("status")
    assert "Not known: database: the tables are at version 9999" in text
    assert "Model: version 1" in text


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"data": 1}', b"<html>", None])
def test_a_prometheus_that_tells_no_budgets(monitored, answer):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        if answer is None:
            server.server_close()
        else:
            threading.Thread(target=server.handle_request, daemon=True).start()
        text = monitored.told("status", APP__MONITORING__PROMETHEUS=url)
    assert f"Not known: {url} tells no error budgets: " in text
    assert "Error budgets" not in text


def test_gauges_in_a_file(monitored, tmp_path):
    monitored.score_moved("second")
    file = tmp_path / "model.prom"
    monitored.told("monitor", APP__MONITORING__TEXTFILE=file)
    found = gauges(file.read_text())
    label = {"source": "batch", "version": "1", "kind": "drift", "name": "psi", "column": FIRST}
    assert found[of("model_metric", **label)] == monitored.metric("psi", FIRST)
    critical = sum(each[2] == "critical" for each in monitored.alerts())
    assert found[of("model_alerts_open", severity="critical")] == critical > 0
    end = found[of("model_window_end_seconds", source="batch")]
    assert abs(end - datetime.now(UTC).timestamp()) < 600
    code, _, err = monitored.done("monitor", APP__MONITORING__TEXTFILE="/proc/no/model.prom")
    assert code == 2
    assert err.startswith("error: /proc/no/model.prom: no gauges can be written: ")


@pytest.mark.slow
def test_gauges_of_pipelines(copied, tmp_path):
    file = tmp_path / "gauges" / "model.prom"

    def after_run(code: int, **chosen: object) -> dict:
        done = copied.run("run", "prediction", APP__MONITORING__TEXTFILE=file, **chosen)
        assert done.returncode == code, done.stderr
        return gauges(file.read_text())

    found = after_run(0)
    failed = of("pipeline_failed", pipeline="prediction")
    newest = of("model_newest_prediction_seconds", source="batch")
    assert found[failed] == 0
    assert found[of("pipeline_started_seconds", pipeline="prediction")] <= found[newest]
    assert found[newest] == pytest.approx(datetime.now(UTC).timestamp(), abs=600)
    quick = copied.folder / "src" / PACKAGE / "pipelines" / "definition.py"
    quick.write_text(quick.read_text().replace("retries: int = 2", "retries: int = 0"))
    assert after_run(1, APP__BATCH__INPUT="data/raw/missing.csv")[failed] == 1
    nowhere = {"APP__MONITORING__TEXTFILE": "/proc/no/model.prom"}
    done = copied.run("run", "prediction", "--date", "2026-11-01", **nowhere)
    assert done.returncode == 0
    assert "warning: /proc/no/model.prom: no gauges can be written: " in done.stderr
    with sqlite3.connect(copied.folder / "data" / "project.db") as database:
        database.execute("UPDATE pipeline_steps SET exit_code = NULL")
    publish(f"sqlite:///{copied.folder}/data/project.db", str(file))
    assert gauges(file.read_text())[failed] == 0, "it may still be running"
    with sqlite3.connect(copied.folder / "data" / "project.db") as database:
        database.execute("UPDATE pipeline_steps SET started_at = '2026-01-01 00:00:00.000000'")
    publish(f"sqlite:///{copied.folder}/data/project.db", str(file))
    assert gauges(file.read_text())[failed] == 1


@pytest.mark.slow
def test_the_api_shows_the_same(copied):
    assert copied.run("score").returncode == 0
    assert copied.run("monitor").returncode == 0
    api = Api(copied).wait_until_ready()
    try:
        page = wait_for(lambda: (found := api.get("/status")).status == 200 and found)
        assert page.headers["content-type"].startswith("text/html")
        assert b"Version 1 serves" in page.body
        assert b"No alert is open." in page.body
        found = api.get("/status", Accept="application/json").json
        assert found["model"]["version"] == "1"
        label = {"source": "batch", "version": "", "kind": "quality", "column": ""}
        key = of("model_metric", name="predictions", **label)
        wait_for(lambda: gauges(api.get("/metrics").body.decode()).get(key))
    finally:
        api.stop()
    copied.stop()
