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
from iris_flower_prediction.models import artifact, mlflow_client, registry, stores
from iris_flower_prediction.models.predict import make_predictions
from iris_flower_prediction.models.sql_store import SQLStore

pytestmark = pytest.mark.slow

# Another process: prints when it is ready, then copies models from folders.
COPY = """
import sys
from {package} import settings
from {package}.models import stores
config = settings.load()
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[2:]:
    print(stores.copy(folder, sys.argv[1], config), flush=True)
"""


def changed(saved: Path, folder: Path, **known: object) -> str:
    """A copy of a saved model with changed metadata."""
    folder.mkdir()
    metadata = artifact.read_metadata(saved) | known
    (folder / metadata["artifact"]).write_bytes((saved / metadata["artifact"]).read_bytes())
    artifact.write_metadata(folder, metadata)
    return str(folder)


@pytest.fixture
def one_and_two(saved, tmp_path) -> tuple[str, str]:
    """Folders of two models with versions 1 and 2."""
    return tuple(changed(saved, tmp_path / f"model {n}", version=str(n)) for n in (1, 2))


def test_what_is_copied_is_what_is_loaded(place, config, saved, examples):
    arrived = stores.copy(str(saved), place.uri, config)
    model = stores.load_model(arrived, config)
    rows = examples[CONTRACT.names]
    assert make_predictions(model, rows) == make_predictions(artifact.open_model(saved), rows)
    artifact.self_test(model)
    assert stores.identify(arrived, config) == stores.label(model.metadata)


def test_an_empty_place_holds_no_model_and_says_so(place, config, tmp_path):
    for use in (
        lambda: stores.load_model(place.uri, config),
        lambda: stores.identify(place.uri, config),
        lambda: stores.copy(place.uri, str(tmp_path / "copied"), config),
    ):
        with pytest.raises(ProjectError, match=r"there is no such model|holds no model"):
            use()
    assert not (tmp_path / "copied").exists()


def test_the_same_copy_twice_changes_nothing(place, config, saved):
    target = place.uri + ("@champion" if place.uri.startswith("models:") else "")
    arrived = stores.copy(str(saved), target, config)
    before = stores.identify(arrived, config)
    assert stores.copy(str(saved), target, config) == arrived
    assert stores.identify(target, config) == before


def test_what_was_tampered_with_is_refused(place, config, saved, tmp_path):
    arrived = stores.copy(str(saved), place.uri, config)
    place.tamper()
    for use in (
        lambda: stores.load_model(arrived, config),
        lambda: stores.copy(arrived, str(tmp_path / "copied"), config),
    ):
        with pytest.raises(ProjectError, match=r"not (the file that|what) was saved"):
            use()
    assert not (tmp_path / "copied").exists()


def test_what_was_tampered_with_is_mended_by_another_copy(storage, config, saved):
    stores.copy(str(saved), storage.uri, config)
    storage.tamper()
    stores.copy(str(saved), storage.uri, config)
    artifact.self_test(stores.load_model(storage.uri, config))


def test_a_copy_that_does_not_prove_itself_leaves_what_was_there(storage, config, saved, tmp_path):
    stores.copy(str(saved), storage.uri, config)
    before = stores.identify(storage.uri, config)
    known = artifact.read_metadata(saved)["self_test"]
    wrong = known | {"labels": [label + 1 for label in known["labels"]]}
    strange = changed(saved, tmp_path / "strange", self_test=wrong, version="9")
    with pytest.raises(ProjectError, match="self-test"):
        stores.copy(strange, storage.uri, config)
    assert stores.identify(storage.uri, config) == before


def test_a_model_takes_the_place_of_another(storage, config, one_and_two):
    for number, folder in zip("121", [*one_and_two, one_and_two[0]], strict=True):
        assert stores.copy(folder, storage.uri, config) == storage.uri
        assert stores.load_model(storage.uri, config).version == number


@pytest.fixture
def workshop(folder) -> Path:
    """The project's folder with its code, where another process finds the same settings."""
    shutil.copytree(CHECKOUT / "src", folder / "src")
    return folder


class Copier:
    """Another process in a project's folder that copies models when told to."""

    def __init__(self, place, workshop: Path, *folders: str | Path) -> None:
        script = workshop / f"copy-{secrets.token_hex(4)}.py"
        script.write_text(COPY.format(package=settings.PACKAGE), "utf-8")
        environment = os.environ | place.variables | {"PYTHONPATH": str(workshop / "src")}
        self.process = subprocess.Popen(
            [sys.executable, script, place.uri, *folders],
            cwd=workshop,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> "Copier":
        assert self.process.stdout.readline() == "ready\n"
        return self

    def go(self) -> None:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


def test_whoever_reads_while_it_is_replaced_gets_a_whole_model(
    storage, config, one_and_two, workshop
):
    stores.copy(one_and_two[0], storage.uri, config)
    copier = Copier(storage, workshop, *one_and_two * 3).ready()
    copier.go()
    while copier.process.poll() is None:
        assert stores.load_model(storage.uri, config).version in ("1", "2")
    assert copier.process.communicate(timeout=SECONDS)[0].count(storage.uri) == 6


def test_two_copies_at_once_leave_one_whole_model(storage, config, one_and_two, workshop):
    copiers = [Copier(storage, workshop, *[folder] * 5).ready() for folder in one_and_two]
    for each in copiers:
        each.go()
    for each in copiers:
        assert each.process.communicate(timeout=SECONDS)[0].count(storage.uri) == 5
    artifact.self_test(stores.load_model(storage.uri, config))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_copies_to_one_row_at_once_wait_for_each_other(kind, request, saved):
    store = SQLStore(request.getfixturevalue(f"{kind}_place").uri)
    metadata = artifact.read_metadata(saved)
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: store.save(b"content", metadata), range(40)):
            assert store.read() == (metadata, b"content")


def test_an_interrupted_copy_leaves_a_whole_model(storage, config, one_and_two, workshop):
    stores.copy(one_and_two[0], storage.uri, config)
    for _ in range(3):
        copier = Copier(storage, workshop, one_and_two[1]).ready()
        copier.go()
        try:
            copier.process.wait(random.uniform(0.005, 0.5))  # noqa: S311
        except subprocess.TimeoutExpired:
            copier.process.kill()
        copier.process.communicate()
        artifact.self_test(stores.load_model(storage.uri, config))
    stores.copy(one_and_two[1], storage.uri, config)
    assert stores.load_model(storage.uri, config).version == "2"


def test_many_threads_load_at_once(place, config, saved, matrix):
    arrived = stores.copy(str(saved), place.uri, config)

    def load(_):
        return stores.load_model(arrived, config).run(matrix)[0].tolist()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(load, range(8)))
    assert all(each == found[0] for each in found)


@pytest.fixture
def three(mlflow_registry, config, one_and_two) -> str:
    """The name of a registered model with three versions: the first is champion."""
    name = mlflow_registry.uri.removeprefix("models:/")
    for folder in (*one_and_two, one_and_two[0]):
        stores.copy(folder, mlflow_registry.uri, config)
    registry.promote("1", "the first", config, name)
    return name


def test_promotions_are_rolled_back_step_by_step(three, config):
    registry.promote("2", "better", config, three)
    registry.promote("3", "better still", config, three)
    assert stores.load_model(f"models:/{three}", config).version == "3"
    assert registry.rollback(config, three) == ("3", "2")
    assert registry.rollback(config, three) == ("2", "1")
    assert registry.find("champion", config, three).number == "1"
    with pytest.raises(ProjectError, match="no previous champion"):
        registry.rollback(config, three)
    versions = registry.history(config, three)
    verdicts = {each.number: each.tags["verdict"] for each in versions}
    assert verdicts == {"1": "promoted", "2": "rolled back", "3": "rolled back"}
    assert [each.aliases for each in versions] == [(), (), ("champion",)]


def test_a_version_that_was_tampered_with_is_not_promoted(three, mlflow_registry, config):
    mlflow_registry.tamper()
    with pytest.raises(ProjectError, match="not the file that was saved"):
        registry.require_fit("2", True, config, three)


def test_a_copy_to_the_registry_bears_the_alias_once_it_has_proven_itself(
    mlflow_registry, config, saved, tmp_path
):
    name = mlflow_registry.uri.removeprefix("models:/")
    known = artifact.read_metadata(saved)["self_test"]
    wrong = known | {"labels": [label + 1 for label in known["labels"]]}
    strange = changed(saved, tmp_path / "strange", self_test=wrong)
    with pytest.raises(ProjectError, match="self-test"):
        stores.copy(strange, f"{mlflow_registry.uri}@champion", config)
    assert registry.find("champion", config, name) is None
    arrived = stores.copy(str(saved), f"{mlflow_registry.uri}@champion", config)
    assert arrived == f"{mlflow_registry.uri}/{registry.find('champion', config, name).number}"
    mlflow_registry.tamper()
    mended = stores.copy(str(saved), f"{mlflow_registry.uri}@champion", config)
    assert mended != arrived
    artifact.self_test(stores.load_model(f"{mlflow_registry.uri}@champion", config))


def test_a_number_cannot_be_chosen(mlflow_registry, config, saved):
    with pytest.raises(ProjectError, match="give models:/NAME"):
        stores.copy(str(saved), f"{mlflow_registry.uri}/1", config)


def test_concurrent_copies_each_get_a_number_of_their_own(mlflow_registry, config, saved, workshop):
    # The first request makes MLflow's tables, so that the copiers need not.
    mlflow_client.client(config).search_registered_models()
    copiers = [Copier(mlflow_registry, workshop, saved).ready() for _ in range(3)]
    for each in copiers:
        each.go()
    arrived = [each.process.communicate(timeout=SECONDS)[0].strip() for each in copiers]
    assert sorted(arrived) == [f"{mlflow_registry.uri}/{number}" for number in (1, 2, 3)]
    for uri in arrived:
        artifact.self_test(stores.load_model(uri, config))


def test_what_a_run_has_logged_is_named_by_the_run(mlflow_registry, config, saved, examples):
    arrived = stores.copy(str(saved), mlflow_registry.uri, config)
    name, number = arrived.removeprefix("models:/").split("/")
    run = mlflow_client.client(config).get_model_version(name, number).run_id
    uri = f"runs:/{run}/model"
    expected = make_predictions(stores.load_model(arrived, config), examples)
    assert make_predictions(stores.load_model(uri, config), examples) == expected
    assert stores.identify(uri, config).startswith("model-")
    mlflow_registry.tamper()
    with pytest.raises(ProjectError, match="not the file that was saved"):
        stores.load_model(uri, config)
    with pytest.raises(ProjectError, match="nobody"):
        stores.load_model("runs:/nobody/model", config)
