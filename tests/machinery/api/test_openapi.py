"""The description of the API: committed, served and written are the same, and it breaks nobody."""

import json
from dataclasses import replace

import pytest
from conftest import CHECKOUT, PACKAGE

from iris_flower_prediction.api import openapi, routes
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.schema import Column

COMMITTED = CHECKOUT / "docs" / "openapi.json"


def test_the_committed_description_is_the_one_that_is_served(api):
    served = api.get("/openapi.json")
    assert served.headers["content-type"] == "application/json"
    assert json.loads(COMMITTED.read_text("utf-8")) == served.json, "run: make docs"


def test_it_is_the_same_however_often_it_is_asked_for(api):
    assert len({api.get("/openapi.json").body for _ in range(3)}) == 1


def test_the_command_writes_the_committed_file(project):
    (project.folder / "docs").mkdir()
    done = project.run("openapi")
    assert (done.returncode, done.stderr) == (0, "")
    written = (project.folder / "docs" / "openapi.json").read_bytes()
    assert written == COMMITTED.read_bytes(), "run: make docs"


def test_it_describes_the_contract(api):
    document = api.get("/openapi.json").json
    assert document["info"]["version"] == CONTRACT.version
    rows = document["components"]["schemas"]["Rows"]
    assert rows["required"] == CONTRACT.names
    for column in CONTRACT.columns:
        told = rows["properties"][column.name]
        assert told.get("description", "").startswith(column.description)
        assert set(told["items"].get("enum", [])) == set(column.allowed)
    assert document["info"]["x-contract"] == CONTRACT.describe()


def test_it_says_which_problem_is_solved_and_whom_to_ask(api):
    told = api.get("/openapi.json").json
    assert told["info"]["title"] == "Iris Flower Prediction"
    assert told["info"]["description"].startswith("Predicts the species of an iris flower")
    assert told["info"]["contact"]["name"] == "Data Science Team"
    assert next(iter(told["paths"])) == "/predict"


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/v2/models/{name}/infer"])
def test_the_examples_of_the_description_are_answered(api, path):
    body = api.get("/openapi.json").json["paths"][path]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    assert api.post(path.replace("{name}", PACKAGE), example).status == 200


@pytest.fixture
def rewrite(call, tmp_path, monkeypatch):
    """rewrite(contract): the description of another contract, over the committed one's copy."""
    file = tmp_path / "openapi.json"
    file.write_bytes(COMMITTED.read_bytes())

    def run(contract):
        for module in (openapi, routes):
            monkeypatch.setattr(module, "CONTRACT", contract)
        return call("openapi", "--file", file), file.read_bytes() == COMMITTED.read_bytes()

    return run


# Every change of the contract that breaks a client, whatever the columns are.
BREAKING = {
    "a column is gone": replace(CONTRACT, columns=CONTRACT.columns[1:]),
    "a column is new": replace(CONTRACT, columns=(*CONTRACT.columns, Column("NEW_X", "float"))),
    "a column takes less": replace(
        CONTRACT,
        columns=(
            Column(CONTRACT.names[0], "category", allowed=("x",)),
            *CONTRACT.columns[1:],
        ),
    ),
    "the prediction takes more": replace(
        CONTRACT, target=replace(CONTRACT.target, type="category", allowed=("x", "y"), example=None)
    ),
}


@pytest.mark.parametrize("contract", BREAKING.values(), ids=BREAKING)
def test_a_change_that_breaks_clients_needs_a_new_version(rewrite, contract):
    refused, unchanged = rewrite(contract)
    assert refused.returncode == 2 and unchanged
    assert "raise the version in contract.py, " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    done, unchanged = rewrite(replace(contract, version="99.0.0"))
    assert done.returncode == 0 and not unchanged


def test_a_change_that_breaks_nobody_needs_none(rewrite):
    columns = [replace(column, nullable=True, unit="other") for column in CONTRACT.columns]
    done, unchanged = rewrite(replace(CONTRACT, columns=tuple(columns)))
    assert (done.returncode, done.stderr) == (0, "") and not unchanged


@pytest.mark.parametrize("content", ["<<<<<<< ours", "[]", '{"paths": 5}', "{}"])
def test_a_file_that_is_no_description_is_left_alone(call, tmp_path, content):
    file = tmp_path / "openapi.json"
    file.write_text(content)
    done = call("openapi", "--file", file)
    assert done.returncode == 2 and "remove it first" in done.stderr
    assert file.read_text() == content
