"""Sources of settings: which one counts, and what a file must be like to hold a setting."""

import os

import pytest

from iris_flower_prediction import environment, settings
from iris_flower_prediction.errors import ProjectError

URL = "postgresql+pg8000://writer:s3cret@db/{}"


@pytest.fixture
def secrets(folder, monkeypatch):
    """A mounted folder of secrets."""
    mounted = folder / "mounted"
    mounted.mkdir()
    monkeypatch.setattr(environment, "SECRETS", mounted)
    return mounted


def tracked() -> tuple[str, str]:
    """The value of models.tracking_uri, and where it came from."""
    config, sources = settings.read()
    return config.models.tracking_uri, settings.origin(("models", "tracking_uri"), sources)


def test_the_first_source_that_has_a_setting_counts(folder, secrets, monkeypatch):
    assert tracked() == (f"sqlite:///{folder}/mlflow.db", "config/nonprod.toml")
    (folder / ".env").write_text(f"MODELS__TRACKING_URI={URL.format('dotenv')}\n", "utf-8")
    assert tracked() == (URL.format("dotenv"), ".env")
    file = secrets / "MODELS__TRACKING_URI"
    file.write_text(f"{URL.format('mounted')}\n", "utf-8")
    assert tracked() == (URL.format("mounted"), str(file))
    named = folder / "named"
    named.write_text(f"  {URL.format('named')}\n\n", "utf-8")
    monkeypatch.setenv("MODELS__TRACKING_URI_FILE", str(named))
    assert tracked() == (URL.format("named"), "MODELS__TRACKING_URI_FILE")
    monkeypatch.delenv("MODELS__TRACKING_URI_FILE")
    monkeypatch.setenv("MODELS__TRACKING_URI", URL.format("variable"))
    assert tracked() == (URL.format("variable"), "environment")


def test_a_setting_that_stands_nowhere_has_its_default(folder):
    _, sources = settings.read()
    assert settings.origin(("training", "folds"), sources) == "default"


def test_a_file_may_be_named_in_dotenv_and_relative_to_the_project(folder, monkeypatch):
    (folder / "url").write_text(URL.format("named"), "utf-8")
    (folder / ".env").write_text("MODELS__TRACKING_URI_FILE=url\n", "utf-8")
    assert tracked() == (URL.format("named"), ".env MODELS__TRACKING_URI_FILE")
    monkeypatch.setenv("MODELS__TRACKING_URI", URL.format("variable"))
    assert tracked() == (URL.format("variable"), "environment")


def test_settings_of_dotenv_stay_out_of_the_environment(folder, secrets):
    """Or a process that this one starts would take them for variables, which count more."""
    (folder / ".env").write_text("TRAINING__FOLDS=7\nAWS_REGION=sa-east-1\n", "utf-8")
    (secrets / "training__folds").write_text("8", "utf-8")
    try:
        assert settings.load().training.folds == 8
        assert "TRAINING__FOLDS" not in os.environ
        assert os.environ["AWS_REGION"] == "sa-east-1"
    finally:
        os.environ.pop("AWS_REGION", None)


def test_mounted_files_of_others_are_ignored(secrets):
    (secrets / "token").write_bytes(b"\xff" * 100)
    (secrets / "huge").write_bytes(b" " * 1_000_000)
    (secrets / "kubernetes.io").mkdir()
    (secrets / "MODELS__URI").mkdir()
    assert settings.load().models.uri.startswith("models:/")


def test_a_mounted_file_may_be_a_link_as_kubernetes_makes_it(secrets):
    (secrets / "..data").mkdir()
    (secrets / "..data" / "TRAINING__FOLDS").write_text("9", "utf-8")
    (secrets / "TRAINING__FOLDS").symlink_to("..data/TRAINING__FOLDS")
    assert settings.load().training.folds == 9


def test_another_folder_of_secrets_may_be_chosen_but_must_be_there(folder, secrets, monkeypatch):
    (folder / "own").mkdir()
    (folder / "own" / "LOG_LEVEL").write_text("debug", "utf-8")
    monkeypatch.setenv("SECRETS_DIR", "own")
    assert settings.load().log_level == "DEBUG"
    monkeypatch.setenv("SECRETS_DIR", "missing")
    with pytest.raises(ProjectError, match=r"SECRETS_DIR: .*missing: no such file"):
        settings.load()


def test_no_folder_of_secrets_is_needed(folder, monkeypatch):
    monkeypatch.setattr(environment, "SECRETS", folder / "missing")
    assert settings.load().training.folds > 0


def test_a_misspelt_mounted_setting_is_an_error(secrets):
    (secrets / "TRAINING__FOLD").write_text("7", "utf-8")
    with pytest.raises(ProjectError, match=r"training\.fold \(.*mounted/TRAINING__FOLD\)"):
        settings.load()


def test_two_mounted_files_of_one_setting_are_refused(secrets):
    (secrets / "TRAINING__FOLDS").write_text("7", "utf-8")
    (secrets / "training__folds").write_text("8", "utf-8")
    with pytest.raises(ProjectError, match=r"are one setting: remove one"):
        settings.load()


def test_a_variable_and_its_file_together_are_refused(folder, monkeypatch):
    (folder / "folds").write_text("7", "utf-8")
    monkeypatch.setenv("TRAINING__FOLDS_FILE", "folds")
    monkeypatch.setenv("TRAINING__FOLDS", "")
    assert settings.load().training.folds == 7
    monkeypatch.setenv("TRAINING__FOLDS", "8")
    with pytest.raises(ProjectError, match="TRAINING__FOLDS and TRAINING__FOLDS_FILE are both"):
        settings.load()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"7" + b" " * environment.LONGEST_SECRET, f"longer than {environment.LONGEST_SECRET}"),
        (b"many", r"training.folds \(TRAINING__FOLDS_FILE\): Input should be a valid integer"),
    ],
    ids=["missing", "empty", "blank", "binary", "long", "wrong"],
)
def test_a_file_that_holds_no_setting_is_explained(folder, monkeypatch, content, problem):
    if content is not None:
        (folder / "folds").write_bytes(content)
    monkeypatch.setenv("TRAINING__FOLDS_FILE", "folds")
    with pytest.raises(ProjectError, match=problem) as caught:
        settings.load()
    assert "TRAINING__FOLDS_FILE" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_folder_or_a_pipe_is_no_file(folder, monkeypatch):
    os.mkfifo(folder / "pipe")
    for name in ("pipe", "config"):
        monkeypatch.setenv("TRAINING__FOLDS_FILE", name)
        with pytest.raises(ProjectError, match="is no file"):
            settings.load()


def test_a_file_that_cannot_be_read_is_explained(folder, secrets):
    (secrets / "TRAINING__FOLDS").symlink_to(secrets / "TRAINING__FOLDS")
    with pytest.raises(ProjectError, match="symbolic links"):
        settings.load()


def test_what_a_command_overrides_counts_more_than_a_file(folder, monkeypatch):
    (folder / "folds").write_text("7", "utf-8")
    monkeypatch.setenv("TRAINING__FOLDS_FILE", "folds")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    environment.override({"TRAINING__FOLDS": "8", "TRAINING__SEARCHES": None})
    assert settings.load().training.folds == 8


def test_one_entry_of_a_table_may_come_from_elsewhere(folder, monkeypatch):
    monkeypatch.setenv("TRAINING__MINIMUM", '{"accuracy": 0.5}')
    config, sources = settings.read()
    assert config.training.minimum["accuracy"] == 0.5
    assert settings.origin(("training", "minimum", "accuracy"), sources) == "environment"


def test_a_dotenv_that_is_no_text_is_explained(folder):
    (folder / ".env").write_bytes(b"TRAINING__FOLDS=\xff\n")
    with pytest.raises(ProjectError, match=r"\.env cannot be read"):
        settings.load()


def test_the_port_of_a_hosting_platform_is_the_last_choice(folder, monkeypatch):
    monkeypatch.setenv("PORT", "9000")
    config, sources = settings.read()
    assert config.api.port == 9000
    assert settings.origin(("api", "port"), sources) == "PORT"
    monkeypatch.setenv("API__PORT", "9001")
    assert settings.load().api.port == 9001
