"""Settings: which source counts, what overrides it, and what is refused."""

import os

import pytest

from iris_flower_prediction import settings
from iris_flower_prediction.errors import ProjectError

URL = "postgresql+pg8000://writer:s3cret@db/{}"


@pytest.fixture
def secrets(folder, monkeypatch):
    """A mounted folder of secrets."""
    mounted = folder / "mounted"
    mounted.mkdir()
    monkeypatch.setattr(settings, "SECRETS", str(mounted))
    return mounted


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
    monkeypatch.setenv("APP__TRAINING__FOLDS", "9")
    training = settings.load().training
    assert (training.folds, training.searches) == (9, 3)


def test_an_empty_variable_overrides_nothing(folder, monkeypatch):
    write(folder, "nonprod", "folds = 7")
    monkeypatch.setenv("APP__TRAINING__FOLDS", "")
    assert settings.load().training.folds == 7


def test_dotenv_overrides_the_file_and_the_environment_overrides_both(folder, monkeypatch):
    write(folder, "nonprod", "folds = 7\nsearches = 3")
    (folder / ".env").write_text("APP__TRAINING__FOLDS=8\nAPP__TRAINING__SEARCHES=4\n", "utf-8")
    monkeypatch.setenv("APP__TRAINING__SEARCHES", "5")
    training = settings.load().training
    assert (training.folds, training.searches) == (8, 5)


def test_other_variables_in_dotenv_are_none_of_our_business(folder):
    (folder / ".env").write_text("AWS_REGION=sa-east-1\nDATABASE_PASSWORD=x\n", "utf-8")
    assert settings.load().training.folds > 0
    assert os.environ["AWS_REGION"] == "sa-east-1"  # for the clients of a cloud


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
    assert "config/nonprod.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "APP__TRAINING__FOLD",
            "7",
            r"training\.fold \(environment\).* \(is training\.folds meant\?\)",
        ),
        ("APP__TRAINING__FOLDS", "many", r"training\.folds \(environment\)"),
        ("APP__TRAINING__MINIMUM", "high", r"training: give lists and tables as JSON"),
        ("APP__MODLES__URI", "model", r"APP__MODLES__URI: .*\(is APP__MODELS__URI meant\?\)"),
        ("APP__LOG_LEVL", "DEBUG", r"is APP__LOG_LEVEL meant\?"),
        ("APP__DATABASE__X", "1", r"APP__DATABASE__X: there is no such setting"),
        ("APP__DATABASE", "sqlite://", r"database \(environment\): is no URL of a database that"),
        ("APP__DATABASE", "data/x.db", r"database \(environment\): .*is no URL of a database"),
        ("TRAINING__FOLDS", "7", r"has no effect: the variable is APP__TRAINING__FOLDS"),
    ],
)
def test_a_variable_that_would_have_no_effect_is_refused(folder, monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    with pytest.raises(ProjectError, match=told) as caught:
        settings.load()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["LOG_LEVEL", "TRAINING__FOLDS", "BATCH__DATABASE", "API__X"])
def test_a_name_without_its_prefix_is_refused_in_places_of_the_project(folder, secrets, name):
    (folder / ".env").write_text(f"{name}=x\n", "utf-8")
    with pytest.raises(ProjectError, match=f"{name} has no effect: the variable is APP__{name}"):
        settings.load()
    (folder / ".env").unlink()
    (secrets / name.lower()).write_text("x", "utf-8")
    if "__" not in name:
        assert settings.load().log_level == "INFO"  # who knows whose it is
        return
    with pytest.raises(ProjectError, match=f"{name} has no effect"):
        settings.load()


def test_two_spellings_of_one_setting_are_refused(secrets, monkeypatch):
    monkeypatch.setenv("APP__TRAINING__FOLDS", "7")
    monkeypatch.setenv("app__training__folds", "8")
    with pytest.raises(ProjectError, match="APP__TRAINING__FOLDS is given twice"):
        settings.load()
    settings.override({"training.folds": "9"})
    assert settings.load().training.folds == 9
    for number, name in enumerate(["APP__LOG_LEVEL", "app__log_level"]):
        (secrets / name).write_text(["DEBUG", "INFO"][number], "utf-8")
    with pytest.raises(ProjectError, match="APP__LOG_LEVEL is given twice"):
        settings.load()


def test_a_dollar_in_dotenv_is_a_dollar(folder):
    (folder / ".env").write_text("APP__MODELS__URI='x${HOME}y'\n", "utf-8")
    assert settings.load().models.uri.endswith("x${HOME}y")


def test_an_empty_variable_is_one_that_is_not_given(folder, monkeypatch):
    (folder / ".env").write_text("ENVIRONMENT=prod\n", "utf-8")
    monkeypatch.setenv("ENVIRONMENT", "")
    write(folder, "prod", "folds = 8")
    assert settings.load().training.folds == 8


@pytest.mark.parametrize("name", ["API", "BATCH", "MODELS", "LOG_LEVEL", "APP", "APP_PORT", "APP_"])
def test_variables_of_others_change_nothing(folder, monkeypatch, name):
    before = settings.load()
    monkeypatch.setenv(name, "tcp://10.0.0.1:80")
    assert settings.load() == before


def test_the_first_source_that_has_a_setting_counts(folder, secrets, monkeypatch):
    def tracked() -> tuple[str, str]:
        uri = settings.load().models.tracking_uri
        return uri, settings.origin(("models", "tracking_uri"), settings.sources())

    name = "APP__MODELS__TRACKING_URI"
    assert tracked() == (f"sqlite:///{folder}/mlflow.db", "config/nonprod.toml")
    (secrets / name).write_text(f"{URL.format('mounted')}\n", "utf-8")
    assert tracked() == (URL.format("mounted"), str(secrets))
    (folder / ".env").write_text(f"{name}={URL.format('dotenv')}\n", "utf-8")
    assert tracked() == (URL.format("dotenv"), ".env")
    assert name not in os.environ  # or whoever runs next in this process would have it
    monkeypatch.setenv(name, URL.format("variable"))
    assert tracked() == (URL.format("variable"), "environment")


def test_a_setting_that_stands_nowhere_has_its_default(folder):
    assert settings.origin(("training", "folds"), settings.sources()) == "default"


def test_a_mounted_file_may_be_a_link_as_kubernetes_makes_it(secrets):
    (secrets / "..data").mkdir()
    (secrets / "..data" / "app__training__folds").write_text("9", "utf-8")
    (secrets / "app__training__folds").symlink_to("..data/app__training__folds")
    assert settings.load().training.folds == 9


def test_mounted_files_of_others_are_ignored(secrets):
    (secrets / "kubernetes.io" / "serviceaccount").mkdir(parents=True)
    (secrets / "kubernetes.io" / "serviceaccount" / "token").write_text("S3", "utf-8")
    (secrets / "other.p12").write_bytes(b"\xff" * 100)
    assert settings.load().models.uri.startswith("models:/")


def test_another_folder_of_secrets_may_be_chosen_but_must_be_there(folder, monkeypatch):
    (folder / "own").mkdir()
    (folder / "own" / "APP__LOG_LEVEL").write_text("debug", "utf-8")
    monkeypatch.setenv("SECRETS_DIR", "own")
    assert settings.load().log_level == "DEBUG"
    monkeypatch.setenv("SECRETS_DIR", "missing")
    with pytest.raises(ProjectError, match=r"missing cannot be read"):
        settings.load()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("APP__TRAINING__FOLD", b"7", r"training\.fold \(.*/mounted\)"),
        ("APP__TRAINING__FOLDS", b"", "APP__TRAINING__FOLDS is empty"),
        ("APP__TRANING__FOLDS", b"7", "is APP__TRAINING__FOLDS meant"),
        ("APP__TRAINING__FOLDS", b"\xff", "APP__TRAINING__FOLDS cannot be read"),
    ],
    ids=["key", "empty", "section", "binary"],
)
def test_a_mounted_file_that_holds_no_setting_is_explained(secrets, name, content, told):
    (secrets / name).write_bytes(content)
    with pytest.raises(ProjectError, match=told) as caught:
        settings.load()
    assert len(str(caught.value).splitlines()) == 1


def test_one_entry_of_a_table_may_come_from_elsewhere(folder, monkeypatch):
    monkeypatch.setenv("APP__TRAINING__MINIMUM", '{"accuracy": 0.5}')
    assert settings.load().training.minimum["accuracy"] == 0.5
    path = ("training", "minimum", "accuracy")
    assert settings.origin(path, settings.sources()) == "environment"


def test_a_dotenv_that_is_no_text_is_explained(folder):
    (folder / ".env").write_bytes(b"APP__TRAINING__FOLDS=\xff\n")
    with pytest.raises(ProjectError, match=r"\.env cannot be read"):
        settings.load()


@pytest.mark.parametrize("line", ["APP__TRAINING__FOLDS", "APP__TRAINING__FOLDS: 6", 'A="6'])
def test_a_line_of_dotenv_without_effect_is_named(folder, line):
    (folder / ".env").write_text(f"APP__TRAINING__SEED=1\n{line}\n", "utf-8")
    with pytest.raises(ProjectError, match=r"\.env, near line 2: write NAME=value"):
        settings.load()


def test_what_a_command_overrides_counts_more_than_anything(folder, monkeypatch):
    (folder / ".env").write_text("APP__TRAINING__FOLDS=6\n", "utf-8")
    monkeypatch.setenv("APP__TRAINING__FOLDS", "7")
    settings.override({"training.folds": "8", "training.searches": None})
    assert settings.load().training.folds == 8


def test_the_port_of_a_hosting_platform_is_the_last_choice(folder, monkeypatch):
    monkeypatch.setenv("PORT", "9000")
    assert settings.load().api.port == 9000
    monkeypatch.setenv("APP__API__PORT", "9001")
    assert settings.load().api.port == 9001
    monkeypatch.setenv("PORT", "tcp://10.0.0.1:80")
    assert settings.load().api.port == 9001
    monkeypatch.delenv("APP__API__PORT")
    with pytest.raises(ProjectError, match=r"api\.port"):
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
