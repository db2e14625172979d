"""Databases by SQLAlchemy URL, and which URIs name one."""

import re
from contextlib import contextmanager
from pathlib import Path

from ..errors import SECRET_NAME, ProjectError, brief, hidden
from ..settings import absolute
from .storage import CLOUD, in_cloud

# Schemes of URIs of all that is no database.
ELSEWHERE = {*CLOUD, "file", "http", "https"}
# How long to wait for whoever makes or changes tables, or uses one that is to change.
LOCK_SECONDS = 60
# Any number that nobody else locks in the same database.
ADVISORY_LOCK = 0x6D69_6772_6174
# Who asks, among the options of a URL, and in a connection string of ODBC, percent-encoded.
WHO = re.compile(rf"(?i)^user|^uid$|{SECRET_NAME.pattern}")
SQLITE = re.compile(r"sqlite(?:\+\w+)?:///([^?#]+)")
OF_ODBC = re.compile(r"(?i)(uid|pwd)(=|%3d).*?(?=;|%3b|&|$)")


def local_path(uri: str) -> Path | None:
    """The path a URI names, or None for a database and for the cloud."""
    return None if "://" in uri and not uri.startswith("file:") else Path(absolute(uri, Path.cwd()))


def of_files(uri: str) -> bool:
    """Whether a URI names a file or a folder, here or in the cloud."""
    return in_cloud(uri) or local_path(uri) is not None


def is_database(uri: str) -> bool:
    return "://" in uri and uri.partition("://")[0] not in ELSEWHERE


def has_password(uri: str) -> bool:
    return is_database(uri) and hidden(uri) != uri


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database; None if it is in memory, or another one."""
    found = SQLITE.match(uri)
    return Path(found[1]) if found else None


@contextmanager
def connect(uri: str, create: bool = False, seconds: float | None = None):
    """A transaction on the database of a URI; its errors name the URI without the password.

    :param create: whether a SQLite file that is not there is made.
    :param seconds: as for ``engine``.
    """
    opened = engine(uri, create, seconds)
    try:
        with transaction(opened, uri) as connection:
            yield connection
    finally:
        opened.dispose()


def exists(uri: str) -> bool:
    """Whether the file of a SQLite database is there; other databases are taken to be."""
    file = sqlite_file(uri)
    return file is None or file.exists()


def engine(uri: str, create: bool = False, seconds: float | None = None):
    """What opens connections to the database of a URI, and keeps one open where it is no file.

    :param seconds: to wait for a lock of SQLite or an answer of pg8000; None: as the driver does.
    :raises ProjectError: there is no such file, or no such driver.
    """
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    url = uri.partition("#")[0]
    options = {"poolclass": NullPool} if url.startswith("sqlite:///") else {"pool_pre_ping": True}
    file = sqlite_file(url)
    if file and create:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif not exists(uri):
        raise ProjectError(f"{redacted(uri)}: there is no database {file}.")
    if seconds is not None and url.startswith(("sqlite:", "postgresql+pg8000:")):
        options["connect_args"] = {"timeout": seconds}  # other drivers have other names for it
    try:
        return create_engine(parsed(uri), **options)
    except NoSuchModuleError:
        scheme, known = url.partition("://")[0], ", ".join(sorted(CLOUD))
        what = f"{scheme}:// is neither cloud storage ({known}) nor a database of SQLAlchemy's"
        raise ProjectError(f"{redacted(uri)}: {what}.") from None
    except ModuleNotFoundError as error:
        raise ProjectError(f"{redacted(uri)}: its driver {error.name} is not installed.") from None
    except SQLAlchemyError as error:
        raise ProjectError(f"{redacted(uri)}: {brief(error)}.") from None


@contextmanager
def transaction(opened, uri: str):
    """A transaction on an engine; its errors name the URI without the password."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _connected(opened, uri) as connection, connection.begin():
            yield connection
    except (ModuleNotFoundError, SQLAlchemyError) as error:
        raise ProjectError(f"{redacted(uri)}: {brief(error)}.") from None


def _connected(opened, uri: str):
    try:
        return opened.connect()
    except (AttributeError, TypeError) as error:  # as pg8000 has it
        what = f"user or password are missing, or an option is unknown ({brief(error)})"
        raise ProjectError(f"{redacted(uri)}: {what}.") from None


def make_missing(connection, *tables) -> None:
    """Make the tables that are not there; of two processes that would, one waits for the other."""
    from sqlalchemy import inspect

    inspector = inspect(connection)
    if not all(inspector.has_table(table.name, table.schema) for table in tables):
        lock(connection)
        for table in tables:
            table.create(connection, checkfirst=True)


def lock(connection) -> None:
    """Wait until nobody else makes tables in this database; held until the transaction ends."""
    from sqlalchemy import text

    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


def redacted(uri: str) -> str:
    """The URI without its secrets, for messages and manifests.

    :raises ProjectError: it is no URL.
    """
    if of_files(uri):
        return hidden(uri) if in_cloud(uri) else uri
    _, mark, what = uri.partition("#")
    return hidden(str(parsed(uri))) + mark + what


def identity(uri: str) -> str:
    """What a URI names, whoever asks by whichever driver: without user, password and secrets.

    :raises ProjectError: it is no URL.
    """
    if of_files(uri):
        return redacted(uri).rstrip("/")
    from sqlalchemy.engine import URL

    url, (_, mark, what) = parsed(uri), uri.partition("#")
    query = {name: text for name, text in url.query.items() if not WHO.search(name)}
    host = (url.host or "").rpartition("@")[2] or None  # before it, the end of an odd password
    where = (host, url.port, url.database, query)
    named = URL.create(url.get_backend_name(), None, None, *where)
    return OF_ODBC.sub("", str(named)) + mark + what.strip().rstrip(";")


def parsed(uri: str):
    """The database's URL in a URI.

    :raises ProjectError: it is none.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri.partition("#")[0])
    except (ArgumentError, ValueError):
        raise ProjectError(f"{uri.partition('://')[0]}://… is not a SQLAlchemy URL.") from None
