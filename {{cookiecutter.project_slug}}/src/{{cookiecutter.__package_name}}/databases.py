"""Databases by SQLAlchemy URL, and which URIs name one."""

from contextlib import contextmanager
from pathlib import Path

from .errors import ProjectError, brief
from .settings import absolute


def local_path(uri: str) -> Path | None:
    """The path a URI names, or None for a database."""
    return None if "://" in uri and not uri.startswith("file:") else Path(absolute(uri, Path.cwd()))


@contextmanager
def connect(uri: str, create: bool = False, seconds: float | None = None):
    """A transaction on the database of a URI; its errors name the URI without the password.

    :param create: whether a SQLite file that is not there is made.
    :param seconds: to wait for a lock of SQLite or an answer of pg8000; None: as the driver does.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    url = uri.partition("#")[0]
    file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
    if file and create:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif file and not file.exists():
        raise ProjectError(f"{redacted(uri)}: there is no database {file}.")
    try:
        engine = create_engine(url, connect_args=_patience(url, seconds))
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()
    except (ModuleNotFoundError, SQLAlchemyError) as error:
        raise ProjectError(f"{redacted(uri)}: {brief(error)}.") from None


def _patience(url: str, seconds: float | None) -> dict:
    # Other drivers have other names for it.
    known = url.startswith(("sqlite:", "postgresql+pg8000:"))
    return {"timeout": seconds} if known and seconds is not None else {}


def redacted(uri: str) -> str:
    """The URI without its password, for messages and manifests."""
    if local_path(uri) is not None:
        return uri
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    url, mark, what = uri.partition("#")
    try:
        return f"{make_url(url)}{mark}{what}"
    except ArgumentError:
        raise ProjectError(f"{url.partition('://')[0]}://… is not a SQLAlchemy URL.") from None
