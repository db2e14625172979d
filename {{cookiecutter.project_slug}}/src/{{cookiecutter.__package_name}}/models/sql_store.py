"""A store of models in a database: a version is a row, the serialized model one of its values."""

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..errors import ProjectError
from ..tables.databases import connect, exists, make_missing, redacted
from .packaged import digest, pack, unpack
from .predict import read_metadata
from .stores import MOST_LISTED, NoSuchModelError, NoSuchStoreError, Version

metadata = sa.MetaData()
models = sa.Table(
    "models",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    # SHA-256 of the serving artifact, and of the package that holds it.
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    # UTC, also in SQLite, which has no time zones.
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    sa.Column("tags", sa.Text, nullable=False),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("package", sa.LargeBinary, nullable=False),
)
aliases = sa.Table(
    "model_aliases",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("alias", sa.String(100), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
# How many writers may take a number before us.
TRIES = 50


class SQLStore:
    """:param url: of SQLAlchemy. :param name: of the model; a database may hold several."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.model = url, name
        self.name = f"{redacted(url)}#{name}"

    def versions(self) -> list[Version]:
        query = self._known().order_by(models.c.version.desc()).limit(MOST_LISTED)
        bearers: dict[int, list[str]] = {}
        with self._connected() as connection:
            borne = sa.select(aliases).where(aliases.c.name == self.model)
            for row in connection.execute(borne):
                bearers.setdefault(row.version, []).append(row.alias)
            rows = connection.execute(query).all()
        return [_version(row, tuple(sorted(bearers.get(row.version, ())))) for row in rows]

    def version(self, reference: str) -> Version:
        alias = reference[1:] if reference.startswith("@") else None
        borne = (aliases.c.name == self.model) & (aliases.c.alias == alias)
        with self._connected() as connection:
            number = reference
            if alias:
                number = connection.scalar(sa.select(aliases.c.version).where(borne))
            row = None
            if str(number).isdigit():
                query = self._known().where(models.c.version == int(number))
                row = connection.execute(query).one_or_none()
        if row is None:
            raise NoSuchModelError(f"{self.name}: there is no {reference or 'version'} in it.")
        return _version(row, (alias,) if alias else ())

    def fetch(self, version: Version, folder: Path) -> None:
        query = sa.select(models.c.package, models.c.digest).where(self._is(version.number))
        with self._connected() as connection:
            row = connection.execute(query).one()
        unpack(bytes(row.package), row.digest, folder, f"{self.name}, version {version.number},")

    def save(self, folder: Path, tags: dict[str, str]) -> str:
        known, content = read_metadata(folder), pack(folder)
        row = {
            "name": self.model,
            "sha256": known["sha256"],
            "digest": digest(content),
            "size": len(content),
            "created": datetime.now(UTC),
            "tags": json.dumps(tags),
            "metrics": json.dumps(known.get("metrics", {})),
            "package": content,
        }
        last = sa.select(sa.func.max(models.c.version)).where(models.c.name == self.model)
        for _ in range(TRIES):
            try:
                with self._connected(create=True) as connection:
                    number = (connection.scalar(last) or 0) + 1
                    connection.execute(sa.insert(models), row | {"version": number})
                return str(number)
            except ProjectError as error:
                # Somebody else took the number in between.
                if not isinstance(error.__context__, IntegrityError):
                    raise
        raise ProjectError(f"{self.name}: too many others save models there at this moment.")

    def set_alias(self, alias: str, number: str) -> None:
        borne = (aliases.c.name == self.model) & (aliases.c.alias == alias)
        with self._connected() as connection:
            connection.execute(sa.delete(aliases).where(borne))
            row = {"name": self.model, "alias": alias, "version": int(number)}
            connection.execute(sa.insert(aliases), row)

    def drop_alias(self, alias: str) -> None:
        borne = (aliases.c.name == self.model) & (aliases.c.alias == alias)
        with self._connected() as connection:
            connection.execute(sa.delete(aliases).where(borne))

    def tag(self, number: str, tags: dict[str, str]) -> None:
        with self._connected() as connection:
            mine = sa.update(models).where(self._is(number))
            # Locks the row, also in SQLite: of two who tag it at once neither loses his tags.
            connection.execute(mine.values(tags=models.c.tags))
            known = json.loads(connection.scalar(sa.select(models.c.tags).where(self._is(number))))
            connection.execute(mine.values(tags=json.dumps(known | tags)))

    @contextmanager
    def _connected(self, create: bool = False):
        """A transaction; a database without our tables is as one without models."""
        if not create and not exists(self.url):
            raise NoSuchStoreError(f"{self.name}: there is no such database.")
        with connect(self.url, create) as connection:
            if create:
                make_missing(connection, models, aliases)
            elif not sa.inspect(connection).has_table(models.name):
                raise NoSuchStoreError(f"{self.name}: there is no model in this database.")
            yield connection

    def _is(self, number: str):
        return (models.c.name == self.model) & (models.c.version == int(number))

    def _known(self):
        """All but the package itself."""
        columns = [column for column in models.columns if column.name != "package"]
        return sa.select(*columns).where(models.c.name == self.model)


def _version(row, borne: tuple[str, ...]) -> Version:
    created = row.created if row.created.tzinfo else row.created.replace(tzinfo=UTC)
    known = json.loads(row.tags), json.loads(row.metrics)
    return Version(str(row.version), row.sha256, row.size, created, borne, *known)
