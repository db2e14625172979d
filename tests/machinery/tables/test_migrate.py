"""Migrations on SQLite and a real PostgreSQL: from every state to the newest, or not at all."""

import importlib
import shutil
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from conftest import SECONDS

from iris_flower_prediction.api import kept
from iris_flower_prediction.batch import ledger
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.models import decisions
from iris_flower_prediction.monitoring import records as found
from iris_flower_prediction.pipelines import records
from iris_flower_prediction.schema import Column
from iris_flower_prediction.settings import PACKAGE
from iris_flower_prediction.tables import databases, migrate, monitored
from iris_flower_prediction.tables.databases import connect

pytestmark = pytest.mark.slow

AT = datetime(2025, 1, 31, 12, 30, tzinfo=UTC)
NEWEST = migrate.revisions()[-1]
OF_MODEL = (found.labels, monitored.metrics, monitored.alerts, decisions.table)
TABLES = {each.name: each for each in (ledger.claims, kept.predictions, records.steps, *OF_MODEL)}
DATA = {
    "score_claims": [
        {"source": "s", "item": "a", "until": None, "run_id": "one", "done": True},
        {"source": "s", "item": "b", "until": None, "run_id": "two", "done": False},
    ],
    **{each.name: [] for each in (records.steps, *OF_MODEL)},
    "kept_predictions": [
        {
            "request_id": f"request {number}",
            "row": number,
            "predicted_at": AT,
            "client": "shop",
            "model": "flowers",
            "model_version": "7",
            "inputs": {"A": 1.5, "B": "é"},
            "probability": 0.25,
        }
        for number in range(3)
    ],
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path, monkeypatch) -> str:
    """The URL of an empty database, which is the project's."""
    url = f"sqlite:///{tmp_path}/new/tables.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
    monkeypatch.setenv("APP__DATABASE", url)
    return url


def execute(url: str, statements: str) -> None:
    with connect(url, create=True) as connection:
        for statement in filter(str.strip, statements.split(";")):
            connection.execute(sa.text(statement))


def fill(url: str) -> None:
    with connect(url) as connection:
        for name, rows in DATA.items():
            if rows:
                connection.execute(sa.insert(TABLES[name]), rows)


def age(url: str) -> None:
    """Make the tables, with rows, as they were before there was one history."""
    with connect(url, create=True) as connection:
        migrate.upgrade(connection, CONTRACT.target, "0001")
    fill(url)
    execute(
        url,
        f"DROP TABLE {migrate.VERSION_TABLE}; "
        "CREATE TABLE alembic_version_kept (version_num VARCHAR(32)); "
        "ALTER TABLE kept_predictions RENAME TO predictions",
    )


def written(url: str) -> str | None:
    """The version that a database has written down."""
    with connect(url) as connection:
        if not sa.inspect(connection).has_table(migrate.VERSION_TABLE):
            return None
        return connection.scalar(sa.text(f"SELECT version_num FROM {migrate.VERSION_TABLE}"))


def tell(url: str, version: str) -> None:
    """Let a database say that it is of another version."""
    execute(url, f"UPDATE {migrate.VERSION_TABLE} SET version_num = '{version}'")


def stored(url: str) -> dict[str, list]:
    with connect(url) as connection:
        tables = TABLES.items()
        return {
            name: [*connection.execute(sa.select(table).order_by(*table.primary_key))]
            for name, table in tables
        }


def differences(url: str) -> list:
    """Where a database differs from what the code says."""

    def ours(thing, name, type_, reflected, other):
        return type_ != "table" or name in TABLES

    with connect(url) as connection:
        options = {"include_object": ours, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        metadata = {id(table.metadata): table.metadata for table in TABLES.values()}
        return compare_metadata(context, list(metadata.values()))


@pytest.fixture
def longer(monkeypatch, tmp_path):
    """longer(statement): a code whose history has one more version."""

    def longer(*statements: str) -> str:
        folder = shutil.copytree(
            migrate.FOLDER, tmp_path / "longer", ignore=shutil.ignore_patterns("__pycache__")
        )
        following = f"{int(NEWEST) + 1:04d}"
        lines = "".join(f"    op.execute({statement!r})\n" for statement in statements)
        text = f'revision, down_revision = "{following}", "{NEWEST}"\n\n\n'
        text = f"from alembic import op\n\n{text}def upgrade():\n{lines}"
        (folder / "versions" / f"{following}_more.py").write_text(text, "utf-8")
        monkeypatch.setattr(migrate, "FOLDER", folder)
        return following

    return longer


def test_the_revisions_are_one_chain_that_the_names_of_the_files_tell():
    expected = [f"{number:04d}" for number in range(1, len(migrate.revisions()) + 1)]
    assert migrate.revisions() == expected
    before = None
    for file in sorted((migrate.FOLDER / "versions").glob("[0-9]*.py")):
        revision = importlib.import_module(f"{PACKAGE}.tables.migrations.versions.{file.stem}")
        assert (revision.revision, revision.down_revision) == (file.name[:4], before)
        before = revision.revision


def test_an_empty_database_gets_the_tables_that_the_code_uses(database, call):
    done = call("migrate")
    assert done.returncode == 0, done.stderr
    assert "made just now" in done.stdout
    assert written(database) == NEWEST
    assert differences(database) == []


def test_a_database_of_before_the_history_keeps_its_rows(database, call):
    age(database)
    done = call("migrate")
    assert done.returncode == 0, done.stderr
    assert {name: len(rows) for name, rows in stored(database).items()} == {
        name: len(rows) for name, rows in DATA.items()
    }
    assert written(database) == NEWEST
    assert differences(database) == []


def test_a_second_call_changes_nothing(database, call):
    for word in ("made just now", "the newest.\n"):
        done = call("migrate")
        assert done.returncode == 0, done.stderr
        assert word in done.stdout
    assert call("migrate", "--check").returncode == 0


def test_check_changes_nothing_and_tells_what_is_behind(database, call, longer, tmp_path):
    done = call("migrate", "--check")
    assert done.returncode == 1
    assert "there are no tables yet" in done.stdout
    assert not (tmp_path / "new").exists()
    assert call("migrate").returncode == 0
    longer("SELECT 1")
    done = call("migrate", "--check")
    assert done.returncode == 1
    assert f"at version {NEWEST}, but this code at" in done.stdout
    assert written(database) == NEWEST


def test_rows_are_kept_by_the_next_version_and_using_them_makes_none(database, call, longer):
    assert call("migrate").returncode == 0
    fill(database)
    before = stored(database)
    following = longer("CREATE TABLE more (a INTEGER)")
    problem = rf"at version {NEWEST}, but .*run `python -m \w+ migrate"
    with pytest.raises(ProjectError, match=problem), connect(database) as connection:
        migrate.ensure(connection, database, CONTRACT.target)
    assert written(database) == NEWEST
    done = call("migrate")
    assert (done.returncode, f"It was at {NEWEST}." in done.stdout) == (0, True), done.stderr
    assert (written(database), stored(database)) == (following, before)


def test_a_database_of_newer_code_is_refused(database, call):
    assert call("migrate").returncode == 0
    tell(database, "9999")
    for words in (["migrate"], ["migrate", "--check"]):
        done = call(*words)
        assert done.returncode in (1, 2)
        assert "9999, which this code does not know" in done.stdout + done.stderr
    with pytest.raises(ProjectError, match=r"9999.*newer code"), connect(database) as connection:
        migrate.ensure(connection, database, CONTRACT.target)


def test_an_empty_database_gets_its_tables_on_first_use(database):
    for _ in range(2):
        with connect(database, create=True) as connection:
            migrate.ensure(connection, database, CONTRACT.target)
    assert written(database) == NEWEST
    assert differences(database) == []


def test_a_database_of_before_the_history_is_not_changed_by_using_it(database, call):
    age(database)
    assert "at version 0000, but this code at" in call("migrate", "--check").stdout
    with pytest.raises(ProjectError, match="migrate"), connect(database) as connection:
        migrate.ensure(connection, database, CONTRACT.target)
    assert written(database) is None


@pytest.mark.parametrize("aged", [False, True], ids=["empty", "of before"])
def test_several_at_once_do_it_once(database, project, aged):
    if aged:
        age(database)
    started = [project.start("migrate", APP__DATABASE=database) for _ in range(4)]
    ended = [process.communicate(timeout=SECONDS) for process in started]
    assert [process.returncode for process in started] == [0] * 4, ended
    news = [out for out, _ in ended if "were made just now" in out or "It was at 0000" in out]
    assert len(news) == 1, ended
    assert written(database) == NEWEST


def test_what_fails_leaves_the_database_as_it_was(database, call, longer):
    assert call("migrate").returncode == 0
    fill(database)
    before = stored(database)
    longer("CREATE TABLE half_done (a INTEGER)", "SELECT * FROM nowhere")
    done = call("migrate")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "nowhere" in done.stderr
    assert (stored(database), written(database)) == (before, NEWEST)
    with connect(database) as connection:
        assert not sa.inspect(connection).has_table("half_done")


def test_a_migration_waits_for_another_but_not_for_ever(database, call, monkeypatch):
    for module in (databases, migrate):
        monkeypatch.setattr(module, "LOCK_SECONDS", 1)
    with connect(database, create=True) as connection:
        databases.lock(connection)
        done = call("migrate")
        assert done.returncode == 2
        assert "lock" in done.stderr
    assert call("migrate").returncode == 0


def test_another_project_of_this_template_is_another_program(database, call, monkeypatch):
    assert call("migrate").returncode == 0
    monkeypatch.setattr(migrate, "VERSION_TABLE", "alembic_version_other")
    with pytest.raises(ProjectError, match="has a table score_claims that is not of this project"):
        migrate.check(database, CONTRACT.target)


def test_a_target_of_another_type_needs_another_database(database, call, capsys):
    assert call("migrate").returncode == 0
    other = Column("Y", "date")
    assert not migrate.check(database, other)
    assert "predictions of another type" in capsys.readouterr().out
    with pytest.raises(ProjectError, match="set `database` to a new one"):
        migrate.migrate(database, other)
    with connect(database) as connection, pytest.raises(ProjectError, match="of another type"):
        migrate.require_type(connection, database, other)
    for kind in ("float", "integer", "boolean", "category", "date"):
        for name in (migrate.VERSION_TABLE, *TABLES):
            execute(database, f"DROP TABLE {name}")
        target = Column("Y", kind, allowed=("a", "b") if kind == "category" else ())
        migrate.migrate(database, target)
        assert migrate.check(database, target)


def test_a_url_that_its_driver_refuses_is_one_sentence(call):
    done = call("migrate", APP__DATABASE="postgresql+pg8000://127.0.0.1/d?foo=x")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "user or password are missing, or an option is unknown" in done.stderr


def test_another_program_s_table_of_the_same_name_is_left_alone(database, call):
    execute(database, "CREATE TABLE kept_predictions (a INTEGER)")
    done = call("migrate")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "has a table kept_predictions that is not of this project" in done.stderr
    assert written(database) is None


def test_mlflow_may_have_its_tables_in_the_same_database(database, call):
    execute(
        database,
        "CREATE TABLE alembic_version (version_num VARCHAR(32)); "
        "INSERT INTO alembic_version VALUES ('3500859a5d39')",
    )
    for _ in range(2):
        assert call("migrate").returncode == 0
    with connect(database) as connection:
        versions = connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all()
    assert versions == ["3500859a5d39"]


LIGHT = """
import sys
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.tables import migrate
from iris_flower_prediction.tables.databases import connect

url = sys.argv[1]
print("sqlalchemy" in sys.modules)
with connect(url, create=True) as connection:
    migrate.ensure(connection, url, CONTRACT.target)
print("alembic" in sys.modules)
"""


def test_alembic_is_imported_only_to_change_something(database, project):
    script = project.folder / "light.py"
    script.write_text(LIGHT)
    for expected in ("False\nTrue\n", "False\nFalse\n"):
        done = project.run(script, database)
        assert (done.stdout, done.stderr) == (expected, "")


GRANTS = """
CREATE ROLE app LOGIN;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app;
"""


def test_a_user_without_rights_to_change_tables_can_use_them(postgresql, call):
    assert call("migrate", APP__DATABASE=postgresql).returncode == 0
    execute(postgresql, GRANTS)
    app = postgresql.replace("tester@", "app@")
    with connect(app) as connection:
        migrate.ensure(connection, app, CONTRACT.target)
    fill(app)
    with pytest.raises(ProjectError, match="must be owner"):
        execute(app, "DROP TABLE kept_predictions")
