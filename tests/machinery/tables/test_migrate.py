"""Migrations on SQLite and a real PostgreSQL: from every state to the newest, or not at all."""

import importlib
import json
import shutil
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from conftest import SECONDS

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.settings import PACKAGE
from iris_flower_prediction.tables import migrate
from iris_flower_prediction.tables.databases import connect

pytestmark = pytest.mark.slow

KINDS = [kind for kind in migrate.KINDS if (migrate.FOLDER / kind).is_dir()]
# Kinds that have more than their first revision.
LONGER = [kind for kind in KINDS if len(migrate.revisions(kind)) > 1]
AT = datetime(2025, 1, 31, 12, 30, tzinfo=UTC)


def first_version() -> sa.MetaData:
    """The tables as the code made them before there were migrations."""
    metadata = sa.MetaData()
    sa.Table(
        "score_claims",
        metadata,
        sa.Column("source", sa.String(1000), primary_key=True),
        sa.Column("item", sa.String(1000), primary_key=True),
        sa.Column("until", sa.String(1000)),
        sa.Column("run_id", sa.String(200), nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
    )
    sa.Table(
        "score_runs",
        metadata,
        sa.Column("run_id", sa.String(200), primary_key=True),
        sa.Column("table_name", sa.String(200), primary_key=True),
        sa.Column("manifest", sa.Text),
    )
    types = {"float": sa.Double, "integer": sa.BigInteger, "boolean": sa.Boolean, "date": sa.Date}
    kind = sa.BigInteger if CONTRACT.target.numbered else types.get(CONTRACT.target.type, sa.Text)
    sa.Table(
        "predictions",
        metadata,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("request_id", sa.String(64), nullable=False, index=True),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("predicted_at", sa.DateTime(timezone=True), nullable=False, index=True),
        sa.Column("client", sa.String(261), nullable=False),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("prediction", kind),
        sa.Column("probability", sa.Double),
    )
    sa.Table("kept_segments", metadata, sa.Column("name", sa.String(64), primary_key=True))
    sa.Table(
        "models",
        metadata,
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("package", sa.LargeBinary, nullable=False),
    )
    sa.Table(
        "model_aliases",
        metadata,
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("alias", sa.String(100), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
    )
    return metadata


FIRST = first_version()
MANIFEST = {"run_id": "one", "timings": {"finished": AT.isoformat()}}
DATA = {
    "score_claims": [
        {"source": "s", "item": "a", "until": None, "run_id": "one", "done": True},
        {"source": "s", "item": "b", "until": None, "run_id": "two", "done": False},
    ],
    "score_runs": [
        {"run_id": "one", "table_name": "scores", "manifest": json.dumps(MANIFEST)},
        {"run_id": "two", "table_name": "scores", "manifest": "{}"},
    ],
    "predictions": [
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
    "kept_segments": [{"name": "a-1"}],
    "models": [
        {
            "name": "flowers",
            "version": 1,
            "sha256": "0" * 64,
            "digest": "1" * 64,
            "size": 7,
            "created": AT,
            "tags": "{}",
            "metrics": "{}",
            "package": b"content",
        }
    ],
    "model_aliases": [{"name": "flowers", "alias": "champion", "version": 1}],
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/tables.db"
    return request.getfixturevalue("emptied")


@pytest.fixture
def emptied(postgresql) -> str:
    """The URL of an empty PostgreSQL."""
    execute(postgresql, "DROP SCHEMA IF EXISTS public, scored CASCADE; CREATE SCHEMA public")
    return postgresql


def execute(url: str, statements: str) -> None:
    with connect(url) as connection:
        for statement in filter(str.strip, statements.split(";")):
            connection.execute(sa.text(statement))


def chosen(url: str) -> dict[str, str]:
    """Settings that put every kind into one database."""
    return {
        "APP__BATCH__DATABASE": url,
        "APP__BATCH__OUTPUT": f"{url}#scores",
        "APP__KEEPING__DATABASE": url,
        "APP__MODELS__URI": f"{url}#flowers@champion",
    }


def age(url: str, kinds=KINDS, data=DATA) -> None:
    """Make the tables of the first version, with rows."""
    with connect(url, create=True) as connection:
        for kind in kinds:
            for name in migrate.KINDS[kind].tables:
                FIRST.tables[name].create(connection)
                connection.execute(sa.insert(FIRST.tables[name]), data[name])


def tell(url: str, kind: str, version: str) -> None:
    """Let a database say that it is of another version."""
    with connect(url) as connection:
        statement = f"UPDATE {migrate.version_table(kind)} SET version_num = '{version}'"
        assert connection.execute(sa.text(statement)).rowcount == 1


def written(url: str) -> dict[str, str]:
    """The versions that a database has written down."""
    found = {}
    with connect(url) as connection:
        for kind in KINDS:
            table = migrate.version_table(kind)
            if sa.inspect(connection).has_table(table):
                (found[kind],) = connection.scalars(sa.text(f"SELECT version_num FROM {table}"))
    return found


def stored(url: str) -> dict[str, list]:
    """The rows of every table, as far as the first version has their columns."""
    with connect(url) as connection:
        names = [name for kind in KINDS for name in migrate.KINDS[kind].tables]
        tables = [FIRST.tables[name] for name in names]
        return {
            table.name: [*connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in tables
        }


NEWEST = {kind: migrate.revisions(kind)[-1] for kind in KINDS}


def tables_of(kind: str) -> sa.MetaData:
    """What the code says of a kind's tables today."""
    if kind == "runs":
        return importlib.import_module(f"{PACKAGE}.batch.outputs")._runs_table("").metadata
    if kind == "models":
        return importlib.import_module(f"{PACKAGE}.models.sql_store").metadata
    if kind == "kept":
        return importlib.import_module(f"{PACKAGE}.api.kept").metadata
    return importlib.import_module(f"{PACKAGE}.batch.ledger").claims.metadata


def differences(url: str, kind: str) -> list:
    """Where a database differs from what the code says."""

    def ours(thing, name, type_, reflected, other):
        return type_ != "table" or name in migrate.KINDS[kind].tables

    with connect(url) as connection:
        options = {"include_object": ours, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, tables_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_revisions_are_one_chain_that_the_names_of_the_files_tell(kind):
    expected = [f"{number:04d}" for number in range(1, len(migrate.revisions(kind)) + 1)]
    assert migrate.revisions(kind) == expected
    before = None
    for file in sorted((migrate.FOLDER / kind).glob("[0-9]*.py")):
        revision = importlib.import_module(f"{PACKAGE}.tables.migrations.{kind}.{file.stem}")
        assert (revision.revision, revision.down_revision) == (file.name[:4], before)
        before = revision.revision


def test_an_empty_database_gets_the_tables_that_the_code_uses(database, call):
    done = call("migrate", **chosen(database))
    assert done.returncode == 0, done.stderr
    assert "made just now" in done.stdout
    assert written(database) == NEWEST
    for kind in KINDS:
        assert differences(database, kind) == []


def test_a_database_of_the_first_version_keeps_its_rows(database, call):
    age(database)
    before = stored(database)
    assert before["score_runs" if "runs" in KINDS else "predictions"]
    done = call("migrate", **chosen(database))
    assert done.returncode == 0, done.stderr
    assert ("It was at 0001." in done.stdout) == bool(LONGER)
    assert stored(database) == before
    assert written(database) == NEWEST
    for kind in KINDS:
        assert differences(database, kind) == []


def test_every_version_leads_to_the_newest(database, call, monkeypatch, tmp_path):
    """As if the database had followed every release of the code."""
    age(database)
    before, steps = stored(database), max(len(migrate.revisions(kind)) for kind in KINDS)
    for step in range(1, steps + 1):
        folder = tmp_path / str(step)
        shutil.copytree(migrate.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        for file in folder.glob("*/*.py"):
            if int(file.name[:4]) > step:
                file.unlink()
        with monkeypatch.context() as patch:
            patch.setattr(migrate, "FOLDER", folder)
            assert call("migrate", **chosen(database)).returncode == 0
            assert set(written(database).values()) <= {f"{n:04d}" for n in range(1, step + 1)}
    assert written(database) == NEWEST
    assert stored(database) == before


def test_when_old_runs_were_published_is_taken_from_their_manifests(database, call):
    age(database)
    assert call("migrate", **chosen(database)).returncode == 0
    runs = tables_of("runs").tables["score_runs"]
    with connect(database) as connection:
        rows = connection.execute(sa.select(runs.c.run_id, runs.c.published_at))
        found = {row.run_id: row.published_at for row in rows}
    assert found["one"].replace(tzinfo=UTC) == AT
    assert found["two"] is None


def test_a_second_call_changes_nothing(database, call):
    for word in ("made just now", "the newest.\n"):
        done = call("migrate", **chosen(database))
        assert done.returncode == 0, done.stderr
        assert word in done.stdout
    assert call("migrate", "--check", **chosen(database)).returncode == 0


def test_check_changes_nothing_and_tells_what_is_behind(database, call, tmp_path):
    done = call("migrate", "--check", **chosen(database))
    assert done.returncode == 1
    assert done.stdout.count("there are no tables of") == len(KINDS)
    assert not (tmp_path / "new").exists()
    age(database)
    done = call("migrate", "--check", **chosen(database))
    assert done.returncode == (1 if LONGER else 0)
    assert done.stdout.count("is at version 0001, but this code at") == len(LONGER)
    assert written(database) == {}


@pytest.mark.parametrize("kind", LONGER)
def test_a_table_with_rows_is_not_changed_by_using_it(database, kind):
    age(database, [kind])
    problem = rf"{kind} is at version 0001.*run `python -m \w+ migrate"
    with pytest.raises(ProjectError, match=problem), connect(database) as connection:
        migrate.ensure(connection, kind, database, CONTRACT.target)
    assert written(database) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_of_newer_code_is_refused(database, kind, call):
    assert call("migrate", **chosen(database)).returncode == 0
    tell(database, kind, "9999")
    for words in (["migrate"], ["migrate", "--check"]):
        done = call(*words, **chosen(database))
        assert done.returncode in (1, 2)
        assert "9999, which this code does not know" in done.stdout + done.stderr
    with pytest.raises(ProjectError, match=r"9999.*newer code"), connect(database) as connection:
        migrate.ensure(connection, kind, database, CONTRACT.target)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_database_gets_its_tables_on_first_use(database, kind):
    for _ in range(2):
        with connect(database, create=True) as connection:
            migrate.ensure(connection, kind, database, CONTRACT.target)
    assert written(database) == {kind: NEWEST[kind]}
    assert differences(database, kind) == []


@pytest.mark.parametrize("aged", [False, True], ids=["empty", "first version"])
def test_several_at_once_do_it_once(database, project, aged):
    if aged:
        age(database)
    started = [project.start("migrate", **chosen(database)) for _ in range(4)]
    ended = [process.communicate(timeout=SECONDS) for process in started]
    assert [process.returncode for process in started] == [0] * 4, ended
    news = [out for out, _ in ended if "It was" in out]
    assert len(news) == 1, ended
    assert written(database) == NEWEST


FAILS = """
from alembic import op

revision, down_revision = "{}", "{}"


def upgrade():
    op.execute("CREATE TABLE half_done (a INTEGER)")
    op.execute("SELECT * FROM nowhere")
"""


def test_what_fails_leaves_the_database_as_it_was(database, call, monkeypatch, tmp_path):
    age(database)
    folder = shutil.copytree(migrate.FOLDER, tmp_path / "migrations")
    last = KINDS[-1]
    newest = NEWEST[last]
    following = f"{int(newest) + 1:04d}"
    (folder / last / f"{following}_fails.py").write_text(FAILS.format(following, newest))
    monkeypatch.setattr(migrate, "FOLDER", folder)
    before = stored(database)
    done = call("migrate", **chosen(database))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "nowhere" in done.stderr
    assert stored(database) == before
    assert written(database) == {}
    with connect(database) as connection:
        assert not sa.inspect(connection).has_table("half_done")


def test_a_migration_waits_for_another_but_not_for_ever(database, call, monkeypatch):
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 1)
    with connect(database, create=True) as connection:
        migrate._lock(connection)
        done = call("migrate", **chosen(database))
        assert done.returncode == 2
        assert "lock" in done.stderr
    assert call("migrate", **chosen(database)).returncode == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if len(migrate.KINDS[kind].tables) > 1])
def test_another_program_s_table_of_the_same_name_is_left_alone(database, kind):
    name = migrate.KINDS[kind].tables[0]
    with connect(database, create=True) as connection:
        connection.execute(sa.text(f"CREATE TABLE {name} (a INTEGER)"))
    problem = rf"has {name} but not .*name another database in {migrate.KINDS[kind].setting}"
    with pytest.raises(ProjectError, match=problem), connect(database) as connection:
        migrate.ensure(connection, kind, database, CONTRACT.target)


LIGHT = """
import sys
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.tables import migrate
from iris_flower_prediction.tables.databases import connect

url, kind = sys.argv[1:]
print("sqlalchemy" in sys.modules)
with connect(url, create=True) as connection:
    migrate.ensure(connection, kind, url, CONTRACT.target)
print("alembic" in sys.modules)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_alembic_is_imported_only_to_change_something(database, kind, project):
    script = project.folder / "light.py"
    script.write_text(LIGHT)
    for expected in ("False\nTrue\n", "False\nFalse\n"):
        done = project.run(script, database, kind)
        assert (done.stdout, done.stderr) == (expected, "")


def test_runs_of_a_schema_are_of_that_schema(emptied, call):
    execute(emptied, "CREATE SCHEMA scored")
    settings = chosen(emptied) | {"APP__BATCH__OUTPUT": f"{emptied}#scored.flowers"}
    assert call("migrate", **settings).returncode == 0
    with connect(emptied) as connection:
        found = sa.inspect(connection).get_table_names("scored")
    assert sorted(found) == ["alembic_version_runs", "score_runs"]
    assert call("migrate", "--check", **settings).returncode == 0


GRANTS = """
CREATE ROLE app LOGIN;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app;
"""


def test_a_user_without_rights_to_change_tables_can_use_them(emptied, call):
    assert call("migrate", **chosen(emptied)).returncode == 0
    execute(emptied, GRANTS)
    app = emptied.replace("tester@", "app@")
    for kind in KINDS:
        with connect(app) as connection:
            migrate.ensure(connection, kind, app, CONTRACT.target)
            for name in migrate.KINDS[kind].tables:
                connection.execute(sa.insert(FIRST.tables[name]), DATA[name])
                connection.execute(sa.delete(FIRST.tables[name]))
    with pytest.raises(ProjectError, match="must be owner"):
        execute(app, f"DROP TABLE {migrate.KINDS[KINDS[0]].tables[0]}")
