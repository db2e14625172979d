"""This project's own tables, in whatever database, at their newest version.

Each kind of tables is a chain of revisions, ``migrations/<kind>/0001_….py`` and on, with a version
table of its own, because kinds may share a database or not. A database that is empty gets its
tables on first use; one that is behind is changed by ``migrate`` alone.
"""

import threading
from pathlib import Path
from typing import NamedTuple

from ..errors import ProjectError
from ..settings import PACKAGE, Settings
from .databases import connect, is_database, redacted, sqlite_file


class Kind(NamedTuple):
    """Tables that belong together."""

    # The key whose URI names their database, and their schema if there is one: URL#schema.table.
    setting: str
    # Those of revision 0001: databases that have them without a version are older than versions.
    tables: tuple[str, ...]
    # A key without which the database is not used.
    needs: str | None = None
    # Whether what stands behind the # may name a schema; otherwise it is something else.
    schema: bool = True


# A kind is part of this project if migrations/ has its folder.
KINDS = {
    "claims": Kind("batch.database", ("score_claims",)),
    "kept": Kind("keeping.database", ("kept_segments", "predictions"), needs="keeping.enabled"),
    "models": Kind("models.uri", ("models", "model_aliases"), schema=False),
    "runs": Kind("batch.output", ("score_runs",)),
}
FOLDER = Path(__file__).parent / "migrations"
FIRST = "0001"
# How long to wait for another migration, or for whoever uses a table that is to change.
LOCK_SECONDS = 60
# An answer may take as long: rows are rewritten, indexes are built.
MIGRATION_SECONDS = 3600
# Any number that nobody else locks in the same database.
ADVISORY_LOCK = 0x6D69_6772_6174
# alembic's `op` belongs to the whole process.
_op = threading.Lock()


class Place(NamedTuple):
    """A kind's tables in the database that a setting names."""

    kind: str
    setting: str
    uri: str


def configured(config: Settings) -> dict[str, list[Place]]:
    """The places of tables by the URL of their database, from the settings."""
    found: dict[str, list[Place]] = {}
    for name, kind in KINDS.items():
        if not (FOLDER / name).is_dir() or (kind.needs and not _value(config, kind.needs)):
            continue
        uri = _value(config, kind.setting)
        url = uri.partition("#")[0]
        if is_database(uri):
            place = Place(name, kind.setting, uri if kind.schema else url)
            found.setdefault(url, []).append(place)
    return found


def ensure(connection, kind: str, uri: str, target=None) -> None:
    """Make the tables of a kind if there are none; must come first in its transaction.

    :param target: the contract's, whose type kept predictions have; other kinds do without.
    :raises ProjectError: they are there, but of an older or a newer version than this code.
    """
    found = version(connection, kind, uri)
    if found is None:
        _lock(connection)
        # Another process may have made them in the meantime.
        found = version(connection, kind, uri)
        if found is None:
            _upgrade(connection, kind, uri, None, target)
            return
    if wrong := problem(kind, found):
        raise ProjectError(f"{redacted(uri)}: {wrong}")


def version(connection, kind: str, uri: str) -> str | None:
    """The version of a kind's tables; None if there are none.

    :raises ProjectError: some are there and others are not.
    """
    from sqlalchemy import column, inspect, select, table

    schema, inspector = _schema(uri), inspect(connection)
    if inspector.has_table(version_table(kind), schema=schema):
        versions = table(version_table(kind), column("version_num"), schema=schema)
        if found := connection.scalar(select(versions.c.version_num)):
            return found
    there = [name for name in KINDS[kind].tables if inspector.has_table(name, schema=schema)]
    if there and len(there) < len(KINDS[kind].tables):
        missing = ", ".join(sorted({*KINDS[kind].tables} - {*there}))
        raise ProjectError(
            f"{redacted(uri)} has {', '.join(there)} but not {missing}, so these are no tables of "
            f"this project: name another database in {KINDS[kind].setting}."
        )
    return FIRST if there else None


def version_table(kind: str) -> str:
    return f"alembic_version_{kind}"


def revisions(kind: str) -> list[str]:
    """All versions of a kind, in their order."""
    return sorted(file.name.partition("_")[0] for file in (FOLDER / kind).glob("[0-9]*.py"))


def problem(kind: str, found: str | None) -> str | None:
    """What is wrong with a version and what to do, as a sentence; None if it is the newest."""
    known, migrate = revisions(kind), f"run `python -m {PACKAGE} migrate`."
    if found == known[-1]:
        return None
    if found is None:
        return f"there are no tables of {kind} yet: {migrate}"
    if found in known:
        return f"{kind} is at version {found}, but this code at {known[-1]}: {migrate}"
    return f"{kind} is at version {found}, which this code does not know: run the newer code."


def versions(url: str, places: list[Place]) -> dict[Place, str | None]:
    """The versions that one database has, None where there are no tables; changes nothing."""
    if (file := sqlite_file(url)) and not file.exists():
        return dict.fromkeys(places)
    with connect(url, seconds=LOCK_SECONDS) as connection:
        return {place: version(connection, place.kind, place.uri) for place in places}


def check(url: str, places: list[Place]) -> bool:
    """Print what is behind in one database; whether nothing is."""
    found = versions(url, places)
    for place in places:
        _tell(place, problem(place.kind, found[place]) or _newest(place))
    return not any(problem(place.kind, found[place]) for place in places)


def migrate(url: str, places: list[Place], target) -> bool:
    """Bring one database to the newest version, in one transaction; print what was done."""
    seconds = LOCK_SECONDS if sqlite_file(url) else MIGRATION_SECONDS
    before = {}
    with connect(url, create=True, seconds=seconds) as connection:
        _lock(connection)
        for place in places:
            found = before[place] = version(connection, place.kind, place.uri)
            if found and found not in revisions(place.kind):
                raise ProjectError(f"{redacted(place.uri)}: {problem(place.kind, found)}")
            _upgrade(connection, place.kind, place.uri, found, target)
    for place, found in before.items():
        done = _newest(place)
        if found != revisions(place.kind)[-1]:
            done += f" It was at {found}." if found else " It was made just now."
        _tell(place, done)
    return True


def _newest(place: Place) -> str:
    return f"{place.kind} is at version {revisions(place.kind)[-1]}, the newest."


def _tell(place: Place, what: str) -> None:
    print(f"{place.setting}: {what}")


def _lock(connection) -> None:
    """Wait until nobody else migrates this database; held until the transaction ends."""
    from sqlalchemy import text

    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


def _upgrade(connection, kind: str, uri: str, found: str | None, target) -> None:
    """Run the revisions after ``found``, and write down each one."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    folder = str(FOLDER / kind)
    scripts = ScriptDirectory(folder, version_locations=[folder])
    options = {
        "version_table": version_table(kind),
        "version_table_schema": _schema(uri),
        "target": target,
    }
    context = MigrationContext.configure(connection, opts=options)
    with _op, Operations.context(context):
        if found and context.get_current_revision() is None:
            context.stamp(scripts, found)
        for script in reversed(list(scripts.iterate_revisions("head", found or "base"))):
            script.module.upgrade()
            context.stamp(scripts, script.revision)


def _schema(uri: str) -> str | None:
    return uri.partition("#")[2].rpartition(".")[0] or None


def _value(config: Settings, key: str):
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
