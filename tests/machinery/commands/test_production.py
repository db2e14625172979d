"""`settings check`: each thing that would not work is one sentence, and nothing else is."""

import socket
import sqlite3
import time

import pytest

from iris_flower_prediction import production, settings
from iris_flower_prediction.tables import migrate
from iris_flower_prediction.tables.databases import connect

FILE = "sqlite:///data/a.db"
# Settings of a production in which nothing is to be found, as far as no server is asked.
SOUND = {
    "PRODUCTION": "true",
    "MODELS__TRACKING_URI": "https://mlflow.example.com",
    "MODELS__ARTIFACTS": "s3://models/artifacts",
    "BATCH__DATABASE": "postgresql+pg8000://u@db/claims",
    "BATCH__INPUT": "postgresql+pg8000://u@db/shop#orders",
    "BATCH__OUTPUT": "postgresql+pg8000://u@db/shop#scores",
    "AUTHENTICATION__REQUIRED": "true",
    "KEEPING__DATABASE": "postgresql+pg8000://u@db/predictions",
}
REFUSED = [
    ("LOG_LEVEL", "DEBUG"),
    ("MODELS__TRACKING_URI", FILE),
    ("MODELS__ARTIFACTS", "project:mlartifacts"),
    ("MODELS__ARTIFACTS", "mlartifacts"),
    ("MODELS__ALLOW_PICKLE", "true"),
    ("BATCH__DATABASE", FILE),
    ("BATCH__INPUT", f"{FILE}#orders"),
    ("BATCH__INPUT", "data/raw/example.csv"),
    ("BATCH__OUTPUT", f"{FILE}#scores"),
    ("AUTHENTICATION__REQUIRED", "false"),
    ("KEEPING__DATABASE", FILE),
]


@pytest.fixture
def check(call):
    """check(**settings): the sentences, and the exit code."""

    def check(**chosen):
        done = call("settings", "check", **chosen)
        assert done.stderr == ""
        return done.stdout.splitlines(), done.returncode

    return check


@pytest.fixture
def alone(monkeypatch):
    """No server is asked."""
    monkeypatch.setattr(production, "SERVERS", ())


def test_a_sound_production_passes(check, alone):
    assert check(**SOUND) == (["Nothing was found."], 0)


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_suits_a_laptop_only_is_refused_in_production(check, alone, name, value):
    said, code = check(**SOUND | {name: value})
    key = name.lower().replace("__", ".")
    assert (len(said), code) == (1, 1), said
    assert said[0].startswith(f"{key} = ")
    assert "(environment)" in said[0] and ": " in said[0] and said[0].endswith(".")
    said, code = check(**SOUND | {name: value, "PRODUCTION": "false"})
    assert (len(said), code) == (2, 0), said


def test_all_findings_are_told_at_once(check, alone):
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


def test_a_served_folder_needs_no_registry(check, alone, project):
    (project.folder / "model").mkdir()
    chosen = {"MODELS__TRACKING_URI": FILE, "MODELS__ARTIFACTS": "project:a"}
    assert check(**SOUND | chosen | {"MODELS__URI": "model"})[1] == 0


def test_a_store_of_models_is_looked_at_like_any_other_database_or_folder(check, alone, project):
    said, code = check(**SOUND | {"MODELS__URI": f"{FILE}#flowers@champion"})
    assert (len(said), code) == (1, 1)
    assert said[0].startswith("models.uri = ")
    (project.folder / "store" / "versions").mkdir(parents=True)
    assert check(**SOUND | {"MODELS__URI": "store@champion"})[1] == 0
    assert check(**SOUND | {"MODELS__URI": "s3://bucket/flowers@champion"})[1] == 0
    said, code = check(**SOUND | {"MODELS__URI": "stored@champion"})
    assert (code, "does not exist" in said[0]) == (1, True)


def test_folders_that_cannot_be_made_are_told(check, alone, project):
    (project.folder / "file").write_text("", "utf-8")
    said, code = check(TRAINING__WORK="file/below")
    assert (code, said[0].partition(" = ")[0]) == (1, "training.work")
    assert "can be neither made nor written to" in said[0]


def test_a_model_that_is_not_there_is_told(check, alone):
    said, code = check(MODELS__URI="nowhere/model")
    assert code == 1
    assert said[0].startswith("models.uri = nowhere/model (environment) does not exist")


def test_a_model_that_is_not_in_its_store_is_told_in_production(check, project):
    (project.folder / "store" / "versions").mkdir(parents=True)
    said, _ = check(PRODUCTION="true", MODELS__URI="store@champion")
    [about] = [line for line in said if line.startswith("models.uri")]
    assert about.endswith("store: there is no @champion in it.")
    assert check(MODELS__URI="store@champion")[1] == 0


def test_an_input_table_that_is_not_there_is_told(check, project):
    with sqlite3.connect(project.folder / "shop.db") as shop:
        shop.execute("CREATE TABLE orders (A REAL)")
    assert check(BATCH__INPUT="sqlite:///shop.db#orders")[1] == 0
    said, code = check(BATCH__INPUT="sqlite:///shop.db#order")
    assert (code, said[0].partition(" = ")[0]) == (1, "batch.input")
    assert "cannot be used: no such table: order" in said[0]


def test_a_password_in_config_is_told_but_not_shown(check, alone, project):
    file = project.folder / "config" / "nonprod.toml"
    text = file.read_text("utf-8").replace("sqlite:///mlflow.db", "postgresql://u:S3@h/db")
    file.write_text(text, "utf-8")
    said, code = check()
    assert code == 1
    assert "has a secret in config/nonprod.toml" in said[0]
    assert "MODELS__TRACKING_URI_FILE" in said[0]
    assert "S3" not in "".join(said)


def test_a_server_that_does_not_answer_is_told_in_time(check, monkeypatch):
    monkeypatch.setattr(production, "SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+pg8000://u:S3@127.0.0.1:{silent.getsockname()[1]}/db"
        began = time.monotonic()
        said, code = check(MODELS__TRACKING_URI=url)
        assert time.monotonic() - began < 10
    assert code == 1
    assert said[0].startswith("models.tracking_uri = postgresql+pg8000://u:***@127.0.0.1")
    assert "S3" not in "".join(said)


def test_a_tracking_server_that_is_down_is_told(check):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert check(MODELS__TRACKING_URI=url)[1] == 0
    said, code = check(MODELS__TRACKING_URI=url)
    assert (code, "cannot be used" in said[0]) == (1, True)


def test_tables_of_another_version_are_told(check, call):
    assert call("migrate").returncode == 0
    for url, places in migrate.configured(settings.load()).items():
        with connect(url) as connection:
            for place in places:
                table = migrate.version_table(place.kind)
                connection.exec_driver_sql(f"UPDATE {table} SET version_num = '9999'")
    said, code = check()
    assert code == 1
    assert all("9999, which this code does not know" in line for line in said[:-1])
