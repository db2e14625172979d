"""The same connection string works wherever a model is named, and models move between stores."""

from itertools import pairwise

import pytest
from api_process import Api, example
from conftest import wait_for
from real_stores import reachable

from iris_flower_prediction import settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import registry
from iris_flower_prediction.models.predict import make_predictions

pytestmark = pytest.mark.slow

CHAMPION = f"models:/{settings.PACKAGE}@champion"


@pytest.fixture
def place(request, copied, monkeypatch):
    """A store, and a trained project from which it got its champion, by the command."""
    place = reachable(request.getfixturevalue(f"{request.param}_place"), monkeypatch)
    done = copied.run("copy", CHAMPION, f"{place.uri}@champion", **place.variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("1")
    return place


@pytest.mark.parametrize("place", ["local", "s3", "azure", "sqlite", "postgres"], indirect=True)
def test_commands_the_batch_job_and_the_api_take_it(place, copied, saved):
    change_versions(place, copied, saved)
    score(place, copied)
    serve_and_follow(place, copied, saved)


def change_versions(place, copied, saved):
    def run(*words: object, **chosen: str):
        return copied.run(*words, **place.variables, **chosen)

    words = ("--store", place.uri)
    assert "champion" in run("history", *words).stdout
    assert run("copy", saved, place.uri).stdout.strip().endswith("2")
    promoted = run("promote", "2", "--reason", "a try", *words)
    assert promoted.returncode == 0, promoted.stderr
    assert "a try" in run("history", APP__MODELS__URI=f"{place.uri}@champion").stdout
    assert "Version 1 is the champion again" in run("rollback", *words).stdout
    again = run("rollback", *words)
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)


def score(place, copied):
    uri = f"{place.uri}@champion"
    for words, chosen in ((["--model", uri], {}), ([], {"APP__MODELS__URI": uri})):
        done = copied.run("score", *words, **place.variables, **chosen)
        assert done.returncode == 0, done.stderr
        assert f"{settings.PACKAGE} version 1" in done.stdout


def serve_and_follow(place, copied, saved):
    uri, body = f"{place.uri}@champion", example()
    chosen = {"APP__MODELS__URI": uri, "APP__API__RELOAD_SECONDS": "0.2", **place.variables}
    api = Api(copied, **chosen).wait_until_ready()
    try:
        model = registry.load_model(uri, settings.load())
        rows = {column.name: body["data"][column.name] for column in CONTRACT.columns}
        expected = make_predictions(model, rows)
        assert api.post("/predict", body).json["predictions"] == pytest.approx(expected)
        assert api.get("/model").json["version"] == "1"
        registry.copy(str(saved), uri, settings.load())
        wait_for(lambda: api.get("/model").json["version"] == "3", api.process)
    finally:
        copied.stop()


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_model_goes_round_through_every_kind_of_store(place, copied, request, monkeypatch):
    sqlite = request.getfixturevalue("sqlite_place").uri
    azure = reachable(request.getfixturevalue("azure_place"), monkeypatch).uri
    back = "models:/came_back"
    stations = [f"{uri}@champion" for uri in (place.uri, sqlite, azure, back)]
    config = settings.load()
    for source, target in pairwise(stations):
        registry.copy(source, target, config)
    first, last = (registry.load_model(uri, config).metadata for uri in (CHAMPION, stations[-1]))
    assert first["sha256"] == last["sha256"]
    assert registry.history(config, back)[0].metrics == first["metrics"]
