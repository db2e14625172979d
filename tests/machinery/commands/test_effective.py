"""`settings`: every setting with its place, and no secret."""

import os

import pytest
from conftest import PACKAGE

from iris_flower_prediction import cli, effective


def lines(call, **chosen) -> dict[str, list[str]]:
    done = call("settings", **chosen)
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


def test_every_setting_is_there_with_its_place(call):
    found = lines(call, TRAINING__FOLDS=7)
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
    assert effective.masked(("models", "uri"), value) == shown


@pytest.mark.parametrize(
    "name",
    ["access_token", "spark.hadoop.fs.azure.account.key.acme", "spark.hadoop.fs.azure.sas.c.acme"],
)
def test_a_setting_with_the_name_of_a_secret_is_masked(name):
    assert effective.masked(("store", name), "S3") == effective.MASK


def test_no_source_betrays_a_secret(call, project):
    (project.folder / "url").write_text("postgresql+pg8000://u:S3@host/db", "utf-8")
    done = call("settings", MODELS__TRACKING_URI_FILE="url")
    assert "postgresql+pg8000://u:***@host/db" in done.stdout
    assert "MODELS__TRACKING_URI_FILE" in done.stdout
    assert "S3" not in done.stdout + done.stderr


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
    assert project.run(script, LOG_LEVEL=level).returncode == 0
    log = project.folder / "log" / f"{PACKAGE}.log"
    assert log.read_text("utf-8").count(" one") == expected
