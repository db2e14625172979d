"""Databases by SQLAlchemy URL, and which URIs name one."""

import re
from contextlib import contextmanager
from pathlib import Path

from ..errors import SECRET_NAME, ProjectError, brief, hidden
from ..settings import absolute
from .storage import CLOUD, in_cloud

# URI schemes that do not name a database.
ELSEWHERE = {*CLOUD, "file", "http", "https"}
# How long to wait for other processes that create, change or use the tables.
LOCK_SECONDS = 60
# An arbitrary number; no other program should lock the same one in the database.
ADVISORY_LOCK = 0x6D69_6772_6174
# URL options that name the user or a secret; OF_ODBC: the same in an encoded ODBC string.
WHO = re.compile(rf"(?i)^user|^uid$|{SECRET_NAME.pattern}")
SQLITE = re.compile(r"sqlite(?:\+\w+)?:///([^?#]+)")
OF_ODBC = re.compile(r"(?i)(uid|pwd)(=|%3d).*?(?=;|%3b|&|$)")


def local_path(uri: str) -> Path | None:
    """The local path that a URI names; None for a database or cloud storage."""
    return None if "://" in uri and not uri.startswith("file:") else Path(absolute(uri, Path.cwd()))


def of_files(uri: str) -> bool:
    """Whether a URI names a file or a folder, local or in the cloud."""
    return in_cloud(uri) or local_path(uri) is not None


def is_database(uri: str) -> bool:
    return "://" in uri and uri.partition("://")[0] not in ELSEWHERE


def has_password(uri: str) -> bool:
    return is_database(uri) and hidden(uri) != uri


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database; None if it is in memory or not SQLite."""
    found = SQLITE.match(uri)
    return Path(found[1]) if found else None


@contextmanager
def connect(uri: str, create: bool = False, seconds: float | None = None):
    """A transaction on the database of a URI; its errors name the URI without the password.

    :param create: whether to create a missing SQLite file.
    :param seconds: as for ``engine``.
    """
    opened = engine(uri, create, seconds)
    try:
        with transaction(opened, uri) as connection:
            yield connection
    finally:
        opened.dispose()


def exists(uri: str) -> bool:
    """Whether the file of a SQLite database exists; other databases are assumed to exist."""
    file = sqlite_file(uri)
    return file is None or file.exists()


def engine(uri: str, create: bool = False, seconds: float | None = None):
    """The SQLAlchemy engine of a URI; it keeps connections open, except to a SQLite file.

    :param seconds: time limit for a SQLite lock or a pg8000 answer; None: the driver's default.
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
        options["connect_args"] = {"timeout": seconds}  # other drivers name it differently
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
    except (AttributeError, TypeError) as error:  # raised by pg8000
        what = f"user or password are missing, or an option is unknown ({brief(error)})"
        raise ProjectError(f"{redacted(uri)}: {what}.") from None


def make_missing(connection, *tables) -> None:
    """Create missing tables; if two processes do so at the same time, one waits for the other."""
    from sqlalchemy import inspect

    inspector = inspect(connection)
    if not all(inspector.has_table(table.name, table.schema) for table in tables):
        lock(connection)
        for table in tables:
            table.create(connection, checkfirst=True)


def lock(connection) -> None:
    """Lock out other processes that create tables in this database, until the transaction ends."""
    from sqlalchemy import text

    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


def redacted(uri: str) -> str:
    """The URI without its secrets, for messages and manifests.

    :raises ProjectError: it is not a valid URL.
    """
    if of_files(uri):
        return hidden(uri) if in_cloud(uri) else uri
    _, mark, what = uri.partition("#")
    return hidden(str(parsed(uri))) + mark + what


def identity(uri: str) -> str:
    """The URI without driver, user, password and secrets: the same for every user of a table.

    :raises ProjectError: it is not a valid URL.
    """
    if of_files(uri):
        return redacted(uri).rstrip("/")
    from sqlalchemy.engine import URL

    url, (_, mark, what) = parsed(uri), uri.partition("#")
    query = {name: text for name, text in url.query.items() if not WHO.search(name)}
    host = (url.host or "").rpartition("@")[2] or None  # before @: rest of an unencoded password
    where = (host, url.port, url.database, query)
    named = URL.create(url.get_backend_name(), None, None, *where)
    return OF_ODBC.sub("", str(named)) + mark + what.strip().rstrip(";")


def parsed(uri: str):
    """The database's URL in a URI: the part before ``#``.

    :raises ProjectError: it is not a SQLAlchemy URL.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri.partition("#")[0])
    except (ArgumentError, ValueError):
        raise ProjectError(f"{uri.partition('://')[0]}://… is not a SQLAlchemy URL.") from None
