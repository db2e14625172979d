"""The same connection string works wherever a model is named, and models move between stores."""

from itertools import pairwise

import pytest
from api_process import Api, example
from conftest import wait_for
from real_stores import reachable

from iris_flower_prediction import settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import artifact, registry, stores
from iris_flower_prediction.models.predict import make_predictions

pytestmark = pytest.mark.slow

CHAMPION = f"models:/{settings.PACKAGE}@champion"


@pytest.fixture
def place(request, copied, monkeypatch):
    """A place, and a trained project whose champion came there, by the command."""
    place = reachable(request.getfixturevalue(f"{request.param}_place"), monkeypatch)
    done = copied.run("copy", CHAMPION, place.uri, **place.variables)
    assert (done.returncode, done.stdout.strip()) == (0, place.uri), done.stderr
    return place


@pytest.mark.parametrize("place", ["s3", "azure", "sqlite", "postgres"], indirect=True)
def test_commands_the_batch_job_and_the_api_take_it(place, copied, saved):
    score(place, copied)
    serve_and_follow(place, copied, saved)


def score(place, copied):
    for words, chosen in ((["--model", place.uri], {}), ([], {"APP__MODELS__URI": place.uri})):
        done = copied.run("score", *words, **place.variables, **chosen)
        assert done.returncode == 0, done.stderr
        assert f"{settings.PACKAGE} version 1" in done.stdout


def serve_and_follow(place, copied, saved):
    uri, body = place.uri, example()
    chosen = {"APP__MODELS__URI": uri, "APP__API__RELOAD_SECONDS": "0.2", **place.variables}
    api = Api(copied, **chosen).wait_until_ready()
    try:
        model = stores.load_model(uri, settings.load())
        rows = {column.name: body["data"][column.name] for column in CONTRACT.columns}
        expected = make_predictions(model, rows)
        assert api.post("/predict", body).json["predictions"] == pytest.approx(expected)
        assert api.get("/model").json["version"] == "1"
        stores.copy(str(saved), uri, settings.load())
        # A model that no registry has numbered is named by its digest.
        version = artifact.read_metadata(saved)["sha256"][:12]
        wait_for(lambda: api.get("/model").json["version"] == version, api.process)
    finally:
        copied.stop()


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_model_goes_round_through_every_kind_of_store(place, copied, request, monkeypatch):
    sqlite = request.getfixturevalue("sqlite_place").uri
    azure = reachable(request.getfixturevalue("azure_place"), monkeypatch).uri
    back = "models:/came_back"
    stations = [place.uri, sqlite, azure, f"{back}@champion"]
    config = settings.load()
    for source, target in pairwise(stations):
        stores.copy(source, target, config)
    first, last = (stores.load_model(uri, config).metadata for uri in (CHAMPION, stations[-1]))
    assert first["sha256"] == last["sha256"]
    assert registry.history(config, "came_back")[0].metrics == first["metrics"]
