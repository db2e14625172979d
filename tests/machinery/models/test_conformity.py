"""Every store keeps the same promises: one suite over all of them, each a real one."""

import os
import random
import secrets
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import CHECKOUT, SECONDS

from iris_flower_prediction import settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import mlflow_store, predict, registry
from iris_flower_prediction.models.predict import make_predictions
from iris_flower_prediction.models.registry import open_store
from iris_flower_prediction.models.stores import Reference, parse

pytestmark = pytest.mark.slow

# What another process does: it saves the model of a folder, and says when it begins.
SAVE = """
import sys
from pathlib import Path
from {package} import settings
from {package}.models import registry
store = registry.open_store(sys.argv[1], settings.load())
print("ready", flush=True)
sys.stdin.readline()
print(store.save(Path(sys.argv[2]), {{}}))
"""


def numbered(saved: Path, folder: Path, number: int) -> Path:
    """A copy of a saved model that differs from the others in what is known of it."""
    return changed(saved, folder, metrics={settings.load().training.metric: float(number)})


def changed(saved: Path, folder: Path, **known: object) -> Path:
    folder.mkdir()
    metadata = predict.read_metadata(saved) | known
    (folder / metadata["artifact"]).write_bytes((saved / metadata["artifact"]).read_bytes())
    predict.write_metadata(folder, metadata)
    return folder


@pytest.fixture
def three(place, config, saved, tmp_path) -> list[str]:
    """The numbers of three versions: the first is champion."""
    store = open_store(place.uri, config)
    numbers = [
        store.save(numbered(saved, tmp_path / f"model {n}", n), {"n": str(n)}) for n in (1, 2, 3)
    ]
    registry.promote(numbers[0], "the first", config, place.uri)
    return numbers


def champion(config, place) -> str | None:
    found = registry.find(registry.CHAMPION, config, place.uri)
    return found and found.number


def test_what_is_saved_is_what_is_loaded(place, config, saved, examples):
    number = open_store(place.uri, config).save(saved, {"made": "by a test"})
    reference = str(Reference(place.uri, number))
    model = registry.load_model(reference, config)
    rows = examples[CONTRACT.names]
    assert make_predictions(model, rows) == make_predictions(predict.open_model(saved), rows)
    assert model.version == number
    predict.self_test(model)
    [version] = registry.history(config, place.uri)
    assert version.sha256 == predict.read_metadata(saved)["sha256"]
    assert version.tags["made"] == "by a test"
    assert registry.identify(reference, config) == f"{number}-{version.sha256[:12]}"


def test_an_empty_store_has_no_versions_and_says_so(place, config):
    assert registry.history(config, place.uri) == []
    assert champion(config, place) is None
    for version in ("@champion", "/1"):
        with pytest.raises(ProjectError, match=r"there is no|holds no model"):
            registry.load_model(place.uri + version, config)
    with pytest.raises(ProjectError, match="there is no"):
        registry.rollback(config, place.uri)


def test_versions_are_listed_newest_first_with_all_that_is_known(place, config, three):
    versions = registry.history(config, place.uri)
    assert [each.number for each in versions] == ["3", "2", "1"] == three[::-1]
    assert [each.aliases for each in versions] == [(), (), ("champion",)]
    metric = config.training.metric
    assert [each.metrics.get(metric) for each in versions] == [3.0, 2.0, 1.0]
    assert [each.tags["n"] for each in versions] == ["3", "2", "1"]
    assert all(each.created.tzinfo and len(each.sha256) == 64 for each in versions)
    assert all(each.size is None or each.size > 100 for each in versions)


def test_promotions_are_rolled_back_step_by_step(place, config, three):
    registry.promote("2", "better", config, place.uri)
    registry.promote("3", "better still", config, place.uri)
    assert registry.load_model(place.uri + "@champion", config).version == "3"
    assert registry.rollback(config, place.uri) == ("3", "2")
    assert registry.rollback(config, place.uri) == ("2", "1")
    assert champion(config, place) == "1"
    with pytest.raises(ProjectError, match="no previous champion"):
        registry.rollback(config, place.uri)
    verdicts = {each.number: each.tags["verdict"] for each in registry.history(config, place.uri)}
    assert verdicts == {"1": "promoted", "2": "rolled back", "3": "rolled back"}


def test_aliases_move_and_go(place, config, three):
    store = open_store(place.uri, config)
    store.set_alias("challenger", "2")
    store.set_alias("challenger", "3")
    assert store.version("@challenger").number == "3"
    store.set_alias("shadow", "3")
    assert set(registry.history(config, place.uri)[0].aliases) == {"challenger", "shadow"}
    registry.promote("3", "it is better", config, place.uri)
    assert registry.find("challenger", config, place.uri) is None
    assert store.version("@shadow").number == "3"


@pytest.mark.parametrize("version", ["/9", "@nobody"])
def test_a_version_that_is_not_there_is_named(place, config, three, version):
    with pytest.raises(ProjectError, match=version.lstrip("/")):
        registry.load_model(place.uri + version, config)


def test_what_was_tampered_with_is_refused(place, config, three, tmp_path):
    place.tamper()
    for use in (
        lambda: registry.load_model(place.uri + "@champion", config),
        lambda: registry.copy(place.uri + "/2", str(tmp_path / "copied"), config),
        lambda: registry.require_fit("2", True, config, place.uri),
    ):
        with pytest.raises(ProjectError, match=r"not (the file that|what) was saved"):
            use()
    assert not (tmp_path / "copied").exists()


def test_a_copy_to_a_store_is_verified_and_bears_the_alias(place, config, saved, examples):
    target = place.uri + "@champion"
    first = registry.copy(str(saved), target, config)
    assert parse(first).version == "1" == champion(config, place)
    # The same once more, by whoever runs the same step twice, changes nothing.
    assert registry.copy(str(saved), target, config) == first
    assert len(registry.history(config, place.uri)) == 1
    rows = examples[CONTRACT.names]
    expected = make_predictions(predict.open_model(saved), rows)
    assert make_predictions(registry.load_model(target, config), rows) == expected


def test_what_was_tampered_with_is_mended_by_another_copy(place, config, three, saved):
    place.tamper()
    arrived = registry.copy(str(saved), f"{place.uri}@champion", config)
    assert registry.load_model(f"{place.uri}@champion", config).version == "4"
    assert registry.copy(str(saved), f"{place.uri}@champion", config) == arrived


def test_a_copy_that_does_not_prove_itself_bears_no_alias(place, config, saved, tmp_path):
    known = predict.read_metadata(saved)["self_test"]
    wrong = known | {"labels": [label + 1 for label in known["labels"]]}
    strange = changed(saved, tmp_path / "strange", self_test=wrong)
    with pytest.raises(ProjectError, match="self-test"):
        registry.copy(str(strange), place.uri + "@champion", config)
    assert champion(config, place) is None


def test_a_number_cannot_be_chosen(place, config, saved):
    open_store(place.uri, config).save(saved, {})
    with pytest.raises(ProjectError, match="numbers its versions itself"):
        registry.copy(str(saved), place.uri + "/1", config)
    assert len(registry.history(config, place.uri)) == 1


@pytest.fixture
def workshop(folder) -> Path:
    """The project's folder with its code, where another process finds the same settings."""
    shutil.copytree(CHECKOUT / "src", folder / "src")
    return folder


class Saver:
    """Another process in a project's folder that saves a model when told to."""

    def __init__(self, place, saved: Path, folder: Path) -> None:
        script = folder / f"save-{secrets.token_hex(4)}.py"
        script.write_text(SAVE.format(package=settings.PACKAGE), "utf-8")
        environment = os.environ | place.variables | {"PYTHONPATH": str(folder / "src")}
        self.process = subprocess.Popen(
            [sys.executable, script, place.uri, saved],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


def test_two_who_tag_a_version_at_once_lose_nothing(place, config, saved):
    number = open_store(place.uri, config).save(saved, {"made": "by a test"})

    def tag(name):
        open_store(place.uri, config).tag(number, {name: "x"})

    names = [f"tag{n}" for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tag, names))
    store = open_store(place.uri, config)
    assert {"made", *names} <= store.version(number).tags.keys()
    store.tag(number, {"made": "anew"})
    assert store.version(number).tags["made"] == "anew"


def test_concurrent_saves_each_get_a_number_of_their_own(place, config, saved, workshop):
    if place.uri.startswith("models:"):
        # Whoever asks MLflow first makes its tables.
        mlflow_store.client(config).search_registered_models()
    savers = [Saver(place, saved, workshop) for _ in range(3)]
    for each in savers:
        each.ready()
    for each in savers:
        each.go()
    numbers = [each.process.communicate(timeout=SECONDS)[0].strip() for each in savers]
    assert sorted(numbers) == ["1", "2", "3"]
    for number in numbers:
        predict.self_test(registry.load_model(str(Reference(place.uri, number)), config))


def test_an_interrupted_save_leaves_nothing(place, config, saved, workshop):
    open_store(place.uri, config).save(saved, {})
    for _ in range(3):
        saver = Saver(place, saved, workshop)
        saver.ready()
        saver.go()
        try:
            saver.process.wait(random.uniform(0.005, 0.5))  # noqa: S311
        except subprocess.TimeoutExpired:
            saver.process.kill()
        saver.process.communicate()
        # What is listed is whole; a version that was not finished is none.
        for version in registry.history(config, place.uri):
            registry.load_model(str(Reference(place.uri, version.number)), config)
    before = len(registry.history(config, place.uri))
    number = open_store(place.uri, config).save(saved, {})
    assert len(registry.history(config, place.uri)) == before + 1
    predict.self_test(registry.load_model(str(Reference(place.uri, number)), config))


def test_many_threads_load_at_once(place, config, three, matrix):
    def load(_):
        return registry.load_model(place.uri + "@champion", config).run(matrix)[0].tolist()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(load, range(8)))
    assert all(each == found[0] for each in found)
