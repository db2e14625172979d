"""Versions and their aliases: promote, roll back, tell the history."""

import pytest
from conftest import use

from iris_flower_prediction import cli, settings
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import artifact, register, registry, stores


@pytest.fixture(scope="session")
def registered(trained, saved, tmp_path_factory):
    """The trained project with two more versions: 1 is champion, 2 and 3 are not."""
    with pytest.MonkeyPatch.context() as patch:
        copy = trained.copy_to(tmp_path_factory.mktemp("registered") / "project")
        use(copy.folder, patch)
        config = settings.load()
        for number in (2, 3):
            record = register.Record({"number": number}, {config.training.metric: number})
            assert register.register(saved, record, config) == str(number)
        return copy


@pytest.fixture
def config(registered, tmp_path, monkeypatch):
    use(registered.copy_to(tmp_path / "project").folder, monkeypatch)
    return settings.load()


def champion(config):
    return registry.find(registry.CHAMPION, config).number


def test_a_new_version_has_no_alias_and_its_digest(config, saved):
    newest = registry.history(config)[0]
    assert (newest.number, newest.aliases, newest.tags.get("verdict")) == ("3", (), None)
    assert newest.metrics == {config.training.metric: 3.0}
    model = stores.load_model(f"models:/{settings.PACKAGE}/3", config)
    assert model.metadata["sha256"] == artifact.read_metadata(saved)["sha256"]
    assert champion(config) == "1"


def test_promote_makes_a_version_the_champion_and_says_why(config):
    registry.set_challenger("2", config)
    registry.promote("2", "it is better", config)
    assert champion(config) == "2"
    rows = {row.number: row for row in registry.history(config)}
    assert (rows["2"].aliases, rows["2"].tags["verdict"]) == (("champion",), "promoted")
    assert rows["2"].tags["reason"] == "it is better"
    assert rows["1"].aliases == ()
    assert registry.find(registry.CHALLENGER, config) is None


def test_rollback_goes_back_step_by_step_and_then_no_further(config):
    registry.promote("2", "better", config)
    registry.promote("3", "better still", config)
    assert registry.rollback(config) == ("3", "2")
    assert registry.rollback(config) == ("2", "1")
    assert champion(config) == "1"
    verdicts = {row.number: row.tags["verdict"] for row in registry.history(config)}
    assert verdicts == {"1": "promoted", "2": "rolled back", "3": "rolled back"}
    with pytest.raises(ProjectError, match="no previous champion"):
        registry.rollback(config)
    assert champion(config) == "1"


def test_rollback_never_goes_to_and_fro(config):
    registry.promote("2", "better", config)
    registry.promote("1", "by hand", config)
    assert registry.rollback(config) == ("1", "2")
    assert registry.rollback(config) == ("2", "1")
    with pytest.raises(ProjectError, match="no previous champion"):
        registry.rollback(config)


@pytest.mark.parametrize("version", ["9", "first", ""])
def test_only_a_registered_version_can_be_promoted(config, version):
    with pytest.raises(ProjectError, match="no such model"):
        registry.promote(version, "a mistake", config)
    assert champion(config) == "1"


def test_the_champion_is_not_promoted_again(config):
    with pytest.raises(ProjectError, match="champion already"):
        registry.promote("1", "a mistake", config)


def test_history_is_newest_first(config):
    rows = registry.history(config)
    assert [row.number for row in rows] == ["3", "2", "1"]
    assert [row.aliases for row in rows] == [(), (), ("champion",)]


def test_an_empty_registry_has_no_history_and_no_champion(folder, capsys):
    empty = settings.load()
    assert cli.main(["history"]) == 0
    assert "no model is registered" in capsys.readouterr().out
    assert registry.find(registry.CHAMPION, empty) is None
    with pytest.raises(ProjectError, match="train"):
        stores.load_model(f"models:/{settings.PACKAGE}@champion", empty)


def test_a_copy_holds_what_the_registry_had_and_overwrites_nothing(config, tmp_path):
    target = tmp_path / "copies" / "model"
    stores.copy(f"models:/{settings.PACKAGE}/2", str(target), config)
    assert stores.load_model(str(target), config).version == "2"
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    with pytest.raises(ProjectError, match="exists"):
        stores.copy(f"models:/{settings.PACKAGE}/1", str(target), config)
    assert stores.load_model(str(target), config).version == "2"


def test_a_damaged_version_is_not_copied(config, tmp_path):
    root = settings.root()
    for file in root.glob("mlartifacts/models/*/artifacts/artifacts/**/model.*"):
        file.write_bytes(b"damaged")
    with pytest.raises(ProjectError, match="not the file that was saved"):
        stores.copy(f"models:/{settings.PACKAGE}/1", str(tmp_path / "copy"), config)
    assert not (tmp_path / "copy").exists()
