"""`settings` shows every setting and no secret; its check, what would not do in production."""

import os

import pytest
from conftest import PACKAGE

from iris_flower_prediction import cli, production

FILE = "sqlite:///data/a.db"
# Settings of a production in which nothing is to be found, as far as no server is asked.
SOUND = {
    "APP__PRODUCTION": "true",
    "APP__MODELS__TRACKING_URI": "https://mlflow.example.com",
    "APP__MODELS__ARTIFACTS": "s3://models/artifacts",
    "APP__DATABASE": "postgresql+pg8000://u@db/project",
    "APP__BATCH__INPUT": "postgresql+pg8000://u@db/shop#orders",
    "APP__BATCH__OUTPUT": "postgresql+pg8000://u@db/shop#scores",
    "APP__AUTHENTICATION__REQUIRED": "true",
}
REFUSED = [
    ("APP__LOG_LEVEL", "DEBUG"),
    ("APP__MODELS__TRACKING_URI", FILE),
    ("APP__MODELS__ARTIFACTS", "project:mlartifacts"),
    ("APP__MODELS__ARTIFACTS", "mlartifacts"),
    ("APP__MODELS__ALLOW_PICKLE", "true"),
    ("APP__DATABASE", FILE),
    ("APP__BATCH__INPUT", f"{FILE}#orders"),
    ("APP__BATCH__INPUT", "data/raw/example.csv"),
    ("APP__BATCH__OUTPUT", f"{FILE}#scores"),
    ("APP__AUTHENTICATION__REQUIRED", "false"),
]


@pytest.fixture
def check(call):
    """check(**settings): the sentences, and the exit code."""

    def check(**chosen):
        done = call("settings", "check", **chosen)
        assert done.stderr == ""
        return done.stdout.splitlines(), done.returncode

    return check


def test_a_sound_production_passes(check):
    assert check(**SOUND) == (["Nothing was found."], 0)


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_suits_a_laptop_only_is_refused_in_production(check, name, value):
    said, code = check(**SOUND | {name: value})
    key = name.removeprefix("APP__").lower().replace("__", ".")
    assert (len(said), code) == (1, 1), said
    assert said[0].startswith(f"{key} = ")
    assert "(environment)" in said[0] and ": " in said[0] and said[0].endswith(".")
    said, code = check(**SOUND | {name: value, "APP__PRODUCTION": "false"})
    assert (len(said), code) == (2, 0), said


def test_all_findings_are_told_at_once(check):
    chosen = SOUND | dict(REFUSED)
    said, code = check(**chosen)
    assert (len(said), code) == (len({name for name, _ in REFUSED}), 1)


def test_the_shipped_production_says_what_to_change_and_loads(check):
    said, code = check(ENVIRONMENT="prod")
    assert code == 1
    assert any(line.startswith("models.tracking_uri = sqlite:///data/prod/") for line in said)
    assert all("config/prod.toml" in line for line in said)


def test_the_shipped_nonprod_passes(check):
    said, code = check()
    assert (said[-1], code) == ("Nothing was found.", 0)
    assert "production = false" in said[0]


def test_a_served_folder_needs_no_registry(check, project):
    (project.folder / "model").mkdir()
    chosen = {"APP__MODELS__TRACKING_URI": FILE, "APP__MODELS__ARTIFACTS": "project:a"}
    assert check(**SOUND | chosen | {"APP__MODELS__URI": "model"})[1] == 0


def test_a_password_in_config_is_told_but_not_shown(check, project):
    file = project.folder / "config" / "nonprod.toml"
    text = file.read_text("utf-8").replace("sqlite:///mlflow.db", "postgresql://u:S3@h/db")
    file.write_text(text, "utf-8")
    said, code = check()
    assert code == 1
    assert "has a secret in config/nonprod.toml" in said[0]
    assert "APP__MODELS__TRACKING_URI" in said[0]
    assert "S3" not in "".join(said)


def lines(call, **chosen) -> dict[str, list[str]]:
    done = call("settings", **chosen)
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


def test_every_setting_is_there_with_its_place(call):
    found = lines(call, APP__TRAINING__FOLDS=7)
    assert found["training.folds"] == ["7", "environment"]
    assert found["training.seed"] == ["0", "default"]
    assert found["production"] == ["false", "default"]
    assert found["models.tracking_uri"] == ["sqlite:///mlflow.db", "config/nonprod.toml"]
    assert found["training.work"] == ["data/processed", "default"]


def test_the_environment_decides(call):
    assert lines(call, ENVIRONMENT="prod")["production"] == ["true", "config/prod.toml"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql+pg8000://u:S3@host/db", "postgresql+pg8000://u:***@host/db"),
        ("postgresql://u:S3@S3/S3@host:5432/db#t", "postgresql://u:***@host:5432/db#t"),
        ("postgresql://u@host/db", "postgresql://u@host/db"),
        ("postgresql://u:S3#S3@host/db", "postgresql://u:***@host/db"),
        ("postgresql://:S3@host/db", "postgresql://:***@host/db"),
        ("https://S3@host/db", "https://***@host/db"),
        ("postgresql://h/db?user=u&password=S3&a=1", "postgresql://h/db?user=u&password=***&a=1"),
        ("abfs://c@account/x?sig=S3", "abfs://c@account/x?sig=***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3DS3", "mssql+pyodbc:///?odbc_connect=***"),
        ("sc://h:443/;token=S3;user_id=u", "sc://h:443/;token=***;user_id=u"),
        ("models:/name@champion", "models:/name@champion"),
        ("", '""'),
        (True, "true"),
    ],
)
def test_secrets_are_masked(value, shown):
    assert production.masked(("models", "uri"), value) == shown


@pytest.mark.parametrize(
    "name",
    ["access_token", "spark.hadoop.fs.azure.account.key.acme", "spark.hadoop.fs.azure.sas.c.acme"],
)
def test_a_setting_with_the_name_of_a_secret_is_masked(name):
    assert production.masked(("store", name), "S3") == production.MASK


def test_whoever_stops_reading_gets_no_traceback(project):
    reading, writing = os.pipe()
    os.close(reading)
    process = project.start("settings", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (cli.UNREAD, "")


@pytest.mark.parametrize(("level", "expected"), [("WARNING", 0), ("INFO", 1), ("DEBUG", 2)])
def test_the_log_has_the_chosen_level(project, level, expected):
    (project.folder / "log").mkdir()
    script = project.folder / "logs.py"
    script.write_text(
        f"import logging\nfrom {PACKAGE} import cli\ncli.log_to_files(False)\n"
        "logging.debug('one')\nlogging.info('one')\n",
        "utf-8",
    )
    assert project.run(script, APP__LOG_LEVEL=level).returncode == 0
    log = project.folder / "log" / f"{PACKAGE}.log"
    assert log.read_text("utf-8").count(" one") == expected
