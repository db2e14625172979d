"""Create and upgrade the project's own tables, in the database of the setting ``database``.

An empty database gets its tables on first use; only ``migrate`` upgrades an older one. The tables
of a model store or of an output are not among them.
"""

import threading
from pathlib import Path

from ..errors import ProjectError
from ..schema import Column
from ..settings import PACKAGE
from .databases import LOCK_SECONDS, connect, exists, lock, redacted, sqlite_file

FOLDER = Path(__file__).parent / "migrations"
# MLflow's tables, which may be in the same database, use alembic's default name. The package's name
# prevents confusion with the tables of another project.
VERSION_TABLE = f"alembic_version_{PACKAGE}"
TABLES = (
    *("score_claims", "kept_predictions", "pipeline_steps"),
    *("prediction_labels", "model_metrics", "model_alerts", "model_decisions"),
)
# A database with one of these is older than the common history: its version is BEFORE.
OF_BEFORE, BEFORE = ("alembic_version_claims", "alembic_version_kept"), "0000"
# Time limit for an answer: migrations rewrite rows and build indexes.
MIGRATION_SECONDS = 3600
# alembic's `op` is global, so that only one thread may use it.
_op = threading.Lock()


def ensure(connection, uri: str, target: Column) -> None:
    """Create the tables if there are none; must come first in its transaction.

    :param target: the contract's target; kept predictions are stored in its type.
    :raises ProjectError: the tables are of another version.
    """
    found = version(connection, uri)
    if found is None:
        lock(connection)
        found = version(connection, uri)  # another process may have made them in the meantime
    if found is None:
        upgrade(connection, target)
    elif wrong := problem(found):
        raise ProjectError(f"{redacted(uri)}: {wrong}")


def require_type(connection, uri: str, target: Column) -> None:
    """:raises ProjectError: kept predictions are of another type than the target."""
    if wrong := _unfit(connection, target):
        raise ProjectError(f"{redacted(uri)}: {wrong}")


def version(connection, uri: str) -> str | None:
    """The version of the tables; None if there are none.

    :raises ProjectError: tables of these names are there, but belong to another project.
    """
    from sqlalchemy import inspect, text

    inspector = inspect(connection)
    if inspector.has_table(VERSION_TABLE):
        return connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
    if any(inspector.has_table(name) for name in OF_BEFORE):
        return BEFORE
    if there := [name for name in TABLES if inspector.has_table(name)]:
        raise ProjectError(
            f"{redacted(uri)} has a table {there[0]} that is not of this project: set "
            "`database` to another one."
        )
    return None


def revisions() -> list[str]:
    """All versions, oldest first."""
    return sorted(file.name.partition("_")[0] for file in (FOLDER / "versions").glob("[0-9]*.py"))


def problem(found: str | None) -> str | None:
    """What is wrong with a version and what to do, as a sentence; None if it is the newest."""
    known, migrate = revisions(), f"run `python -m {PACKAGE} migrate`."
    if found == known[-1]:
        return None
    if found is None:
        return f"there are no tables yet: {migrate}"
    if found in (BEFORE, *known):
        return f"the tables are at version {found}, but this code at {known[-1]}: {migrate}"
    return f"the tables are at version {found}, which this code does not know: run the newer code."


def _unfit(connection, target: Column) -> str | None:
    """What is wrong with tables that were created for another target; None if they fit."""
    from sqlalchemy import inspect

    columns = {each["name"]: each for each in inspect(connection).get_columns("kept_predictions")}
    if columns["prediction"]["type"].python_type is target_type(target).python_type:
        return None
    return (
        "kept_predictions holds predictions of another type than the target has now: set "
        "`database` to a new one."
    )


def target_type(target: Column):
    """The SQL type of a prediction."""
    import sqlalchemy as sa

    types = {
        "float": sa.Double,
        "integer": sa.BigInteger,
        "boolean": sa.Boolean,
        "category": sa.Text,
        "date": sa.Date,
    }
    return (sa.BigInteger if target.numbered else types[target.type])()


def check(uri: str, target: Column) -> bool:
    """Print and return whether the tables are at the newest version, for this target."""
    wrong = problem(None)
    if exists(uri):
        with connect(uri, seconds=LOCK_SECONDS) as connection:
            wrong = problem(version(connection, uri)) or _unfit(connection, target)
    print(f"database: {wrong or _newest()}")
    return wrong is None


def migrate(uri: str, target: Column) -> None:
    """Upgrade the tables to the newest version, in one transaction; print what was done."""
    seconds = LOCK_SECONDS if sqlite_file(uri) else MIGRATION_SECONDS
    with connect(uri, create=True, seconds=seconds) as connection:
        lock(connection)
        found = version(connection, uri)
        if found and found not in (BEFORE, *revisions()):
            raise ProjectError(f"{redacted(uri)}: {problem(found)}")
        upgrade(connection, target)
        require_type(connection, uri, target)
    done = ""
    if problem(found):
        done = f" It was at {found}." if found else " They were made just now."
    print(f"database: {_newest()}{done}")


def _newest() -> str:
    return f"the tables are at version {revisions()[-1]}, the newest."


def upgrade(connection, target: Column, to: str = "head") -> None:
    """Create the tables or upgrade them, up to a version."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "target": target})
    config.attributes["version_table"] = VERSION_TABLE
    config.set_main_option("script_location", str(FOLDER))
    with _op:
        command.upgrade(config, to)
