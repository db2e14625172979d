"""Settings: which file counts, what overrides it, and what is refused."""

import pytest

from iris_flower_prediction import settings
from iris_flower_prediction.errors import ProjectError


def write(folder, name, text):
    file = folder / "config" / f"{name}.toml"
    training = '[training]\nmetric = "f1"\nminimum = { f1 = 0.5 }'
    file.write_text(f"{training}\n{text}\n", "utf-8")


def test_nonprod_is_the_default_environment(folder):
    write(folder, "nonprod", "folds = 7")
    assert settings.load().training.folds == 7


def test_environment_picks_the_file(folder, monkeypatch):
    write(folder, "staging", "folds = 8")
    monkeypatch.setenv("ENVIRONMENT", "staging")
    assert settings.load().training.folds == 8


def test_the_committed_environments_load(folder, monkeypatch):
    for name in ("nonprod", "prod"):
        monkeypatch.setenv("ENVIRONMENT", name)
        loaded = settings.load()
        assert loaded.training.metric in {**loaded.training.minimum, **loaded.training.maximum}


def test_an_environment_variable_overrides_one_key(folder, monkeypatch):
    write(folder, "nonprod", "folds = 7\nsearches = 3")
    monkeypatch.setenv("TRAINING__FOLDS", "9")
    training = settings.load().training
    assert (training.folds, training.searches) == (9, 3)


def test_an_empty_variable_overrides_nothing(folder, monkeypatch):
    write(folder, "nonprod", "folds = 7")
    monkeypatch.setenv("TRAINING__FOLDS", "")
    assert settings.load().training.folds == 7


def test_dotenv_overrides_the_file_and_the_environment_overrides_both(folder, monkeypatch):
    write(folder, "nonprod", "folds = 7\nsearches = 3")
    (folder / ".env").write_text("TRAINING__FOLDS=8\nTRAINING__SEARCHES=4\n", "utf-8")
    monkeypatch.setenv("TRAINING__SEARCHES", "5")
    training = settings.load().training
    assert (training.folds, training.searches) == (8, 5)


def test_other_variables_in_dotenv_are_none_of_our_business(folder):
    (folder / ".env").write_text("AWS_REGION=sa-east-1\nDATABASE_PASSWORD=x\n", "utf-8")
    assert settings.load().training.folds > 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("fold = 7", "training.fold"),
        ('[modles]\nuri = "model"', "modles"),
        ("[batch]\nmemory_mb = 1", "batch.memory_mb"),
        ("[batch]\nmax_rejected_share = 1.5", "batch.max_rejected_share"),
        ('[batch]\nworkers = "many"', "batch.workers"),
        ('[batch]\nengine = "flink"', "batch.engine"),
        ('[batch.spark]\nmemory = "4g"', "batch.spark.memory"),
        ("[api]\nport = 0", "api.port"),
        ("[api]\nmax_rows = 0", "api.max_rows"),
        ('[authentication]\nissuer = "https://login.example.com"', "issuer, audience and jwks"),
        ("[keeping]\nspool_mb = 0", "keeping.spool_mb"),
        ("holdout_share = 0", "training.holdout_share"),
        ("folds = 1", "training.folds"),
        ('maximum = "low"', "training.maximum"),
    ],
)
def test_unknown_keys_and_values_out_of_range_are_named(folder, text, named):
    write(folder, "nonprod", text)
    with pytest.raises(ProjectError, match=named) as caught:
        settings.load()
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_key_in_a_variable_is_named(folder, monkeypatch):
    monkeypatch.setenv("TRAINING__FOLD", "7")
    with pytest.raises(ProjectError, match=r"training\.fold"):
        settings.load()


def test_a_file_that_is_not_toml_is_named(folder):
    write(folder, "nonprod", "[models\n")
    with pytest.raises(ProjectError, match=r"nonprod\.toml"):
        settings.load()


def test_an_unknown_environment_is_refused_with_the_known_ones(folder, monkeypatch):
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(ProjectError, match=r"production.*known are: nonprod, prod"):
        settings.load()


def test_relative_locations_are_relative_to_the_project(folder, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    write(folder, "nonprod", 'work = "out"\n[models]\ntracking_uri = "sqlite:///a.db"')
    loaded = settings.load()
    assert loaded.training.work == str(folder / "out")
    assert loaded.models.tracking_uri == f"sqlite:///{folder / 'a.db'}"
    assert loaded.models.uri.startswith("models:/")


def test_settings_cannot_be_changed_by_accident(config):
    with pytest.raises(ValueError, match="frozen"):
        config.training.folds = 3
