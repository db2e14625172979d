"""A model in a database: one row, which includes the serving artifact."""

import json
from datetime import UTC, datetime

import sqlalchemy as sa

from ..errors import ProjectError
from ..settings import PACKAGE
from ..tables.databases import connect, exists, lock, redacted
from .artifact import parse_metadata

SECONDS = 120  # time limit for an answer
models = sa.Table(
    "stored_models",
    sa.MetaData(),
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("artifact", sa.LargeBinary, nullable=False),
)


class SQLStore:
    """See ``stores.Store``; the model's name follows the URL's ``#``."""

    def __init__(self, uri: str) -> None:
        self.url, _, name = uri.partition("#")
        self.name = name or PACKAGE
        self.mine = models.c.name == self.name

    def __str__(self) -> str:
        return f"{redacted(self.url)}#{self.name}"

    def metadata(self) -> dict:
        return parse_metadata(self._row(models.c.metadata).metadata, self)

    def read(self) -> tuple[dict, bytes]:
        row = self._row(models.c.metadata, models.c.artifact)
        return parse_metadata(row.metadata, self), bytes(row.artifact)

    def save(self, content: bytes, metadata: dict) -> None:
        row = {"name": self.name, "saved_at": datetime.now(UTC), "metadata": json.dumps(metadata)}
        with connect(self.url, True, SECONDS) as connection:
            lock(connection)  # the deletion would not see a row that another process inserts
            models.create(connection, checkfirst=True)
            connection.execute(sa.delete(models).where(self.mine))
            connection.execute(sa.insert(models), row | {"artifact": content})

    def _row(self, *columns: sa.Column) -> sa.Row:
        row = None
        if exists(self.url):
            with connect(self.url, seconds=SECONDS) as connection:
                if sa.inspect(connection).has_table(models.name):
                    row = connection.execute(sa.select(*columns).where(self.mine)).one_or_none()
        if row is None:
            raise ProjectError(f"{self} holds no model.")
        return row
