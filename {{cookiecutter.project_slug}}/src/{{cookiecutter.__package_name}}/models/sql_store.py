"""A model in a database: a row, the serialized model one of its values."""

import json
from datetime import UTC, datetime

import sqlalchemy as sa

from ..errors import ProjectError
from ..settings import PACKAGE
from ..tables.databases import connect, exists, make_missing, redacted

models = sa.Table(
    "stored_models",
    sa.MetaData(),
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("package", sa.LargeBinary, nullable=False),
)


class SQLStore:
    """See ``stores.Store``; behind the URL's ``#`` stands the model's name."""

    def __init__(self, uri: str) -> None:
        self.url, _, name = uri.partition("#")
        self.name = name or PACKAGE
        self.mine = models.c.name == self.name

    def metadata(self) -> dict:
        return json.loads(self._row(models.c.metadata).metadata)

    def read(self) -> tuple[dict, bytes]:
        row = self._row(models.c.metadata, models.c.package)
        return json.loads(row.metadata), bytes(row.package)

    def save(self, content: bytes, metadata: dict) -> None:
        row = {"name": self.name, "saved_at": datetime.now(UTC), "metadata": json.dumps(metadata)}
        with connect(self.url, create=True) as connection:
            make_missing(connection, models)
            connection.execute(sa.delete(models).where(self.mine))
            connection.execute(sa.insert(models), row | {"package": content})

    def _row(self, *columns: sa.Column) -> sa.Row:
        row = None
        if exists(self.url):
            with connect(self.url) as connection:
                if sa.inspect(connection).has_table(models.name):
                    row = connection.execute(sa.select(*columns).where(self.mine)).one_or_none()
        if row is None:
            raise ProjectError(f"{redacted(self.url)}#{self.name} holds no model.")
        return row
