"""Another model while requests go on: from a registry, from a folder, and when either is broken."""

import json
import shutil
import time
from pathlib import Path

import pytest
from api_process import Api, Clients, example
from conftest import PACKAGE, SECONDS, free_port, use, wait_for

from iris_flower_prediction import settings
from iris_flower_prediction.models import artifact, register, registry

pytestmark = pytest.mark.slow

CHAMPION = f"models:/{PACKAGE}@champion"
QUICKLY = {"APP__API__RELOAD_SECONDS": "0.2"}
LOADED = 'model_reloads_total{outcome="loaded"}'
FAILED = LOADED.replace("loaded", "failed")
UP = "model_source_up"


@pytest.fixture(scope="module")
def registered(trained, saved, tmp_path_factory):
    """A project whose registry has version 1, the champion, and three that are none yet: 2 is
    good, 3 fails its self-test, 4 is of another contract."""
    project = trained.copy_to(tmp_path_factory.mktemp("registered") / "project")
    with pytest.MonkeyPatch.context() as patch:
        use(project.folder, patch)
        for change in ({}, {"self_test": wrong(saved)}, {"numeric_form": ["other"]}):
            folder = tmp_path_factory.mktemp("version") / "model"
            changed(saved, folder, **change)
            register.register(folder, register.Record(), settings.load())
    return project


def changed(model: Path, folder: Path, **change: object) -> Path:
    """A copy of a saved model with other metadata."""
    shutil.copytree(model, folder)
    artifact.write_metadata(folder, artifact.read_metadata(folder) | change)
    return folder


def wrong(model: Path) -> dict:
    known = artifact.read_metadata(model)["self_test"]
    return known | {"labels": [label + 1 for label in known["labels"]]}


@pytest.fixture
def copy(registered, tmp_path, monkeypatch):
    """A copy of that project, which is this process's project; its APIs end with the test."""
    project = registered.copy_to(tmp_path / "copy")
    use(project.folder, monkeypatch)
    yield project
    project.stop()


def serve(project, **chosen: object) -> Api:
    return Api(project, "--model", CHAMPION, **(QUICKLY | chosen)).wait_until_ready()


def promote(version: str) -> None:
    registry.promote(version, "a test", settings.load())


def version(api) -> str:
    return api.get("/model").json["version"]


def versions(clients) -> list[str]:
    """The versions that answered, in the order of the answers of the first client."""
    answers = [(id, a) for id, a in clients.answers.items() if id.startswith("0-")]
    return [answer.json["model"]["version"] for _, answer in answers]


def test_the_alias_moves_under_load(copy):
    api = serve(copy)
    assert version(api) == "1"
    with Clients(api, path="/predict?detail=true") as clients:
        clients.wait_for_more()
        promote("2")
        wait_for(lambda: version(api) == "2")
        clients.wait_for_more()
        registry.rollback(settings.load())
        wait_for(lambda: version(api) == "1")
        clients.wait_for_more()
        found = api.metrics()
    order = versions(clients)
    print(f"alias moved twice: {clients}")
    assert set(clients.statuses) == {200} and clients.lost == 0
    changes = [now for now, before in zip(order, [None, *order], strict=False) if now != before]
    assert changes == ["1", "2", "1"], "none of the old version after one of the new"
    assert found[LOADED] == 2 and found[FAILED] == 0 and found[UP] == 1
    infos = {series: n for series, n in found.items() if series.startswith("model_info{")}
    assert sorted(infos.values()) == [0, 1]
    assert next(s for s, n in infos.items() if n == 1).count('version="1"') == 1
    copies = {path.name.partition("-")[0] for path in (copy.folder / "data/served").glob("*-*")}
    assert copies == {"1", "2"}
    assert api.stop() == 0


def test_broken_versions_leave_the_old_one(copy):
    """3 fails its self-test, 4 is of another contract."""
    api = serve(copy)
    with Clients(api, 2) as clients:
        for count, broken in enumerate(("3", "4"), 1):
            set_champion(broken)
            wait_for(lambda count=count: api.metrics().get(FAILED) == count)
            clients.wait_for_more()
        found = api.metrics()
    print(f"two broken versions: {clients}")
    assert clients.lost == 0 and set(clients.statuses) == {200}
    assert version(api) == "1" and found[UP] == 1 and LOADED not in found
    assert api.stop() == 0

    set_champion("3")
    refused = copy.run("serve", "--model", CHAMPION, APP__API__PORT=free_port())
    assert refused.returncode == 2 and "self-test" in refused.stderr
    again = serve(copy, APP__API__START_FROM_COPY="true")
    assert version(again) == "1"
    promote("2")
    wait_for(lambda: version(again) == "2")


def set_champion(version: str) -> None:
    registry._set_alias(settings.PACKAGE, "champion", version, settings.load())


def test_a_copy_that_changed_on_the_disk_is_not_used_and_made_anew(copy):
    api = serve(copy)
    current = artifact.current(copy.folder / "data/served")
    file = current / artifact.read_metadata(current)["artifact"]
    file.write_bytes(file.read_bytes()[:-1])
    wait_for(lambda: api.metrics().get(FAILED) == 1)
    assert version(api) == "1"
    assert api.post("/predict", example()).status == 200
    assert api.get("/health/ready").status == 200
    assert api.stop() == 0
    again = serve(copy)
    assert version(again) == "1" and again.post("/predict", example()).status == 200


def test_the_registry_goes_away_and_comes_back(copy):
    api = serve(copy)
    database = copy.folder / "mlflow.db"
    content = database.read_bytes()
    wait_for(lambda: api.metrics().get(UP) == 1)
    with Clients(api, 2) as clients:
        # Overwritten in place, so that processes that have it open read this too.
        database.write_bytes(b"no database " * 1000)
        wait_for(lambda: api.metrics()[UP] == 0)
        clients.wait_for_more()
        assert api.get("/health/ready").status == 200
        database.write_bytes(content)
        wait_for(lambda: api.metrics()[UP] == 1)
        promote("2")
        wait_for(lambda: version(api) == "2")
    print(f"registry away: {clients}")
    assert clients.lost == 0 and set(clients.statuses) == {200}


def test_a_start_without_the_registry(copy):
    database, away = copy.folder / "mlflow.db", copy.folder / "away.db"
    assert serve(copy).stop() == 0
    database.rename(away)
    database.mkdir()
    began = time.monotonic()
    refused = copy.run("serve", "--model", CHAMPION, APP__API__PORT=free_port())
    print(f"refused after {time.monotonic() - began:.0f} s")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert len([line for line in refused.stderr.splitlines() if line.startswith("error:")]) == 1
    api = serve(copy, APP__API__START_FROM_COPY="true")
    assert version(api) == "1" and wait_for(lambda: api.metrics().get(UP) == 0)
    assert "last copy" in api.output.read_text()
    database.rmdir()
    away.rename(database)
    promote("2")
    wait_for(lambda: version(api) == "2")


def test_one_process_follows_into_a_folder(copy):
    api = serve(copy)
    second = copy.run("serve", "--model", CHAMPION, APP__API__PORT=free_port())
    assert second.returncode == 2 and "serve it too with --model" in second.stderr
    folder = copy.folder / "data/served"
    assert copy.run("follow", folder, "--once").returncode == 2
    other = Api(copy, "--model", folder, **QUICKLY).wait_until_ready()
    promote("2")
    wait_for(lambda: version(api) == version(other) == "2")
    api.process.kill()
    api.process.wait(SECONDS)
    assert copy.run("follow", folder, "--once").returncode == 0


def test_a_folder_that_is_replaced_is_picked_up(copy, champion, saved, tmp_path):
    folder = shutil.copytree(champion, tmp_path / "model")
    other = changed(saved, tmp_path / "other", version="9")
    api = Api(copy, "--model", folder, **QUICKLY).wait_until_ready()
    with Clients(api, 2) as clients:
        clients.wait_for_more(10)
        folder.rename(tmp_path / "old")
        other.rename(folder)
        wait_for(lambda: version(api) == "9")
        clients.wait_for_more(10)
    print(f"folder replaced: {clients}")
    assert clients.lost == 0 and set(clients.statuses) == {200}


def test_half_a_model_is_not_used(copy, champion, saved, tmp_path):
    folder = shutil.copytree(champion, tmp_path / "model")
    api = Api(copy, "--model", folder, **QUICKLY).wait_until_ready()
    before = version(api)
    new = changed(saved, tmp_path / "new", version="9")
    name = artifact.read_metadata(new)["artifact"]
    shutil.copy(new / "metadata.json", folder)
    (folder / name).write_bytes((new / name).read_bytes()[:100])
    wait_for(lambda: api.metrics().get(FAILED))
    assert version(api) == before and api.post("/predict", example()).status == 200
    shutil.copy(new / name, folder)
    wait_for(lambda: version(api) == "9")


def test_a_model_that_its_runtime_cannot_run_is_not_used(copy, champion, tmp_path):
    """It has the digest that was recorded, but another number of columns."""
    folder = shutil.copytree(champion, tmp_path / "model")
    api = Api(copy, "--model", folder, **QUICKLY).wait_until_ready()
    known = json.loads((folder / "metadata.json").read_text())["self_test"]
    narrow = known | {"rows": [row[:-1] for row in known["rows"]]}
    artifact.write_metadata(folder, artifact.read_metadata(folder) | {"self_test": narrow})
    wait_for(lambda: api.metrics().get(FAILED) == 1)
    time.sleep(1)
    assert api.metrics()[FAILED] == 1, "it is not tried again and again"
    assert api.post("/predict", example()).status == 200
    assert api.stop() == 0
