"""The API as a process on this machine: keys, predictions, errors, kept predictions."""

import http.client
import json
import socket
import sqlite3
import time
from contextlib import closing, suppress

import pandas as pd
import pytest
from conftest import BAD, CHECKOUT, PACKAGE, SECONDS

from {{ cookiecutter.__package_name }} import settings
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.models.predict import make_predictions


class Api:
    """A client with a key."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key

    def ask(self, path: str, body: dict | None = None, **headers: str) -> tuple[int, dict]:
        """The status and the JSON of an answer."""
        content = None if body is None else json.dumps(body, default=str).encode()
        given = {"Content-Type": "application/json", "X-API-Key": self.key} | headers
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET" if body is None else "POST", path, content, given)
            answer = connection.getresponse()
            return answer.status, json.load(answer)
        finally:
            connection.close()

    def is_ready(self) -> bool:
        try:
            return self.ask("/health/ready")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def api(trained, champion):
    """A running API of the project that requires a key."""
    key = trained.succeed("api-key", "create", "tests").strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("-m", PACKAGE, "serve", "--host", "127.0.0.1", "--port", port, "--model", champion)
    process = trained.start(*words, APP__AUTHENTICATION__REQUIRED="true")
    try:
        api = Api(port, key)
        wait_for(lambda: api.is_ready() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield api
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def wait_for(condition) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def request(rows: pd.DataFrame) -> dict:
    """The body of a request for predictions: dates as text, missing values as null."""
    table = rows.astype(object).where(rows.notna(), None)
    return {"data": table.to_dict("list")}


def test_it_answers_as_the_model_predicts(api, rows, loaded_model):
    status, answer = api.ask("/predict", request(rows.head(50)))
    assert status == 200
    expected = json.loads(json.dumps(make_predictions(loaded_model, rows.head(50)), default=str))
    assert answer["predictions"] == pytest.approx(expected)


def test_nobody_is_answered_without_a_key(api, rows):
    body = request(rows.head(1))
    assert api.ask("/predict", body, **{"X-API-Key": "wrong"})[0] == 401


def test_a_value_that_breaks_the_contract_is_named(api, rows):
    body = request(rows.head(2))
    body["data"][CONTRACT.names[0]][1] = BAD
    status, problem = api.ask("/predict", body)
    assert status == 422
    assert CONTRACT.names[0] in json.dumps(problem) and BAD in json.dumps(problem)


def test_a_column_that_is_missing_is_named(api, rows):
    status, problem = api.ask("/predict", request(rows.head(1).drop(columns=CONTRACT.names[0])))
    assert status == 422
    assert CONTRACT.names[0] in json.dumps(problem)


def test_the_committed_description_is_up_to_date(trained, tmp_path):
    trained.succeed("openapi", "--file", tmp_path / "openapi.json")
    committed = (CHECKOUT / "docs" / "openapi.json").read_bytes()
    assert committed == (tmp_path / "openapi.json").read_bytes(), "run: make docs"


def test_other_protocols_answer_the_same(api, rows):
    expected = api.ask("/predict", request(rows.head(3)))[1]["predictions"]
    table = request(rows[CONTRACT.names].head(3))["data"]
    assert api.ask("/invocations", {"inputs": table})[1]["predictions"] == expected
    assert api.ask(f"/v2/models/{PACKAGE}")[0] == 200


def kept(trained, request_id: str, count: int) -> list[tuple]:
    """Client, inputs and prediction of the rows of a request, once all are in the database."""
    query = "SELECT client, inputs, prediction FROM kept_predictions WHERE request_id = ?"
    file, found = trained.folder / "data/project.db", []

    def delivered() -> bool:
        # The file and the table do not exist until the first rows are delivered.
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file)) as database:
            found[:] = database.execute(query, [request_id]).fetchall()
        return len(found) == count

    wait_for(delivered)
    return found


def test_every_prediction_is_kept_with_its_inputs(trained, api, rows):
    status, _ = api.ask("/predict", request(rows.head(4)), **{"X-Request-Id": "kept-once"})
    assert status == 200
    for client, inputs, prediction in kept(trained, "kept-once", 4):
        assert client.endswith("tests") and prediction is not None
        assert set(json.loads(inputs)) >= set(CONTRACT.names)


def test_labels_make_kept_predictions_measurable(trained, api, rows, examples, tmp_path):
    few, metric = rows.head(20), settings.load().training.metric
    api.ask("/predict", request(few), **{"X-Request-Id": "labelled"})
    kept(trained, "labelled", len(few))
    place = {"request_id": "labelled", "row": range(len(few))}
    labels = examples[[*CONTRACT.needed, CONTRACT.target.name]].head(len(few)).assign(**place)
    labels.to_parquet(tmp_path / "labels.parquet")
    trained.succeed("labels", "import", tmp_path / "labels.parquet")
    assert f"    {metric} " in trained.succeed("monitor")
