"""What incremental scoring has scored already: claims in the project's database.

A run claims its files, or its window of rows, before it scores them, and marks the claim as done
after its output is published. After a crash, the claim is still open: the next call finishes that
run under the same id, so that every file and row is scored exactly once.
"""

import json
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..contract import CONTRACT
from ..errors import ProjectError
from ..tables.databases import connect
from ..tables.migrate import ensure
from .sections import Window

# Types of a watermark that JSON lacks, and how to read each of them from text.
TYPES = {"datetime": datetime.fromisoformat, "date": date.fromisoformat, "Decimal": Decimal}
claims = sa.Table(
    "score_claims",
    sa.MetaData(),
    sa.Column("source", sa.String(1000), primary_key=True),
    # A file, or the value of the watermark column after which a window begins.
    sa.Column("item", sa.String(1000), primary_key=True),
    sa.Column("until", sa.String(1000)),
    sa.Column("run_id", sa.String(200), nullable=False),
    sa.Column("done", sa.Boolean, nullable=False),
)


class Ledger:
    """The claims on one source (``databases.identity`` of an input), in the database at ``uri``."""

    def __init__(self, uri: str, source: str) -> None:
        self.uri, self.source = uri, source
        with connect(uri, create=True) as connection:
            ensure(connection, uri, CONTRACT.target)

    def items(self) -> set[str]:
        """The files that were claimed so far, done or not."""
        return {row.item for row in self._rows()}

    def unfinished(self) -> tuple[str, list[str], Any] | None:
        """Run id, items and end of the window (None for files) of an unfinished claim."""
        rows = [row for row in self._rows() if not row.done]
        if not rows:
            return None
        run_id = rows[0].run_id
        items = sorted(row.item for row in rows if row.run_id == run_id)
        return run_id, items, rows[0].until

    def watermark(self) -> Any:
        """The end of the last claimed window, None before the first.

        It is the end at which no other window begins: only the database can compare the values.
        """
        begun = {_kept(row.item) for row in self._rows()}
        last = [end for end in self._ends() if _kept(end) not in begun]
        return _value(last[-1]) if last else None

    def require(self, column: str) -> None:
        """:raises ProjectError: the windows so far are of another column."""
        if other := {name for end in self._ends() for name in json.loads(end)[2:]} - {column}:
            problem = f"was scored by the watermark {other.pop()} so far: go on with it"
            raise ProjectError(f"{self.source} {problem}.")

    def _ends(self) -> list[str]:
        return [row.until for row in self._rows() if row.until is not None]

    def claim(self, run_id: str, items: Iterable[str], until: str | None = None) -> None:
        """:raises ProjectError: somebody else has claimed one of the items in the meantime."""
        rows = [
            {"source": self.source, "item": item, "until": until, "run_id": run_id, "done": False}
            for item in items
        ]
        with connect(self.uri) as connection:
            try:
                connection.execute(sa.insert(claims), rows)
            except IntegrityError:
                problem = f"another incremental run is scoring {self.source}."
                raise ProjectError(problem) from None

    def done(self, run_id: str) -> None:
        with connect(self.uri) as connection:
            connection.execute(sa.update(claims).where(self._of(run_id)).values(done=True))

    def release(self, run_id: str, items: list[str]) -> None:
        """Remove the claims on items that cannot be scored now."""
        those = self._of(run_id) & (claims.c.item == sa.bindparam("gone"))
        with connect(self.uri) as connection:
            connection.execute(sa.delete(claims).where(those), [{"gone": item} for item in items])

    def _of(self, run_id: str):
        return (claims.c.source == self.source) & (claims.c.run_id == run_id)

    def _rows(self) -> list:
        with connect(self.uri) as connection:
            query = sa.select(claims).where(claims.c.source == self.source)
            return list(connection.execute(query))


def window(column: str, item: str, until: str) -> Window:
    """The window of rows that a claim stands for."""
    return Window(column, _value(item), _value(until))


def text(value: Any, column: str) -> str:
    """A watermark's value and column as text that keeps the value's type.

    :raises ProjectError: values of this type cannot be stored.
    """
    kind = type(value).__name__
    if kind not in TYPES and not isinstance(value, int | float | str | None):
        raise ProjectError(f"a watermark of type {kind} cannot be kept: choose another column.")
    return json.dumps([kind, str(value) if kind in TYPES else value, column])


def _kept(stored: str) -> tuple:
    """The type and value of a watermark, or the name of a file."""
    return tuple(json.loads(stored)[:2]) if stored.startswith("[") else (stored,)


def _value(stored: str) -> Any:
    kind, value = _kept(stored)
    return TYPES[kind](value) if kind in TYPES else value
