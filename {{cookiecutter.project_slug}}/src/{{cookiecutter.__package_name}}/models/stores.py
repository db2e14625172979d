"""The stores that keep versions of a model, and the connection strings that name them.

========================================  =====================================================
``models:/NAME``                          MLflow's registry at ``models.tracking_uri``
``s3://…``, ``gs://…``, ``abfs://…``      cloud storage; everything below that path is the store
``postgresql+pg8000://…#NAME``            a database, by SQLAlchemy URL; SQLite too
``some/folder``, ``file:///…``            a folder
========================================  =====================================================

Behind the store, ``@ALIAS`` or ``/NUMBER`` names a version; ``@champion`` where neither is given.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from ..errors import ProjectError
from ..tables.databases import CLOUD, local_path

CHAMPION, CHALLENGER = "champion", "challenger"
# Where the store's own name begins: behind the database, the host or bucket, or at once.
PARTS = re.compile(r"([^#]*#|models:/|[a-z][a-z0-9+]*://[^/]*/?|)(.*)", re.DOTALL)
VERSIONED = re.compile(r"(.*?)(?:@([A-Za-z0-9][A-Za-z0-9_.-]{0,99})|(?<=.)/(\d+))?", re.DOTALL)
# Versions that a store lists at most, the newest; enough for one a day over years.
MOST_LISTED = 1_000


class NoSuchModelError(ProjectError):
    """The store answers, and has no such model."""


class NoSuchStoreError(NoSuchModelError):
    """There is no such store, and so no model in it."""


@dataclass(frozen=True)
class Version:
    """A version in a store.

    ``sha256`` is of the serving artifact, ``size`` in bytes, ``created`` in UTC. ``tags`` may
    change later, the others never do. ``metrics`` are there where all versions are listed.
    """

    number: str
    sha256: str
    size: int | None
    created: datetime
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class Store(Protocol):
    """What every store can do. All of it raises ProjectError where the store cannot be reached.

    Only ``save`` makes a store that is not there; the others raise NoSuchStoreError.
    """

    def versions(self) -> list[Version]:
        """All versions, newest first, at most MOST_LISTED."""

    def version(self, reference: str) -> Version:
        """The version behind ``@alias`` or with a number.

        :raises NoSuchModelError: there is none.
        """

    def fetch(self, version: Version, folder: Path) -> None:
        """Write the files of a version to a folder; what was changed in the store is refused."""

    def save(self, folder: Path, tags: dict[str, str]) -> str:
        """Keep the model in ``folder`` as a new version, whole or not at all; returns its number.

        Its digest is recorded beside it.
        """

    def set_alias(self, alias: str, number: str) -> None: ...

    def drop_alias(self, alias: str) -> None: ...

    def tag(self, number: str, tags: dict[str, str]) -> None:
        """Add tags to a version, or change them."""


class Reference(NamedTuple):
    """A store, and ``@alias``, a number, or an empty text for neither."""

    store: str
    version: str

    def __str__(self) -> str:
        return self.store + (self.version if self.version[:1] in ("@", "") else f"/{self.version}")


def parse(connection_string: str) -> Reference:
    """Split a connection string into the store and the version in it.

    A number is one only behind a store: ``models:/name/3``, but not the folder ``runs/3``.
    """
    path = None if connection_string.startswith("models:/") else local_path(connection_string)
    if path and path.exists():
        return Reference(connection_string, "")
    where, rest = PARTS.fullmatch(connection_string).groups()
    name, alias, number = VERSIONED.fullmatch(rest).groups()
    if alias is not None:
        return Reference(where + name, f"@{alias}")
    if number is not None and (path is None or is_store(path.parent)):
        return Reference(where + name, number)
    return Reference(connection_string, "")


def is_store(folder: Path) -> bool:
    """Whether a folder is a store of versions, as opposed to the folder of one model."""
    return (folder / "versions").is_dir()


def is_cloud(uri: str) -> bool:
    return uri.partition("://")[0] in CLOUD
