"""Delivers kept predictions from the spool to the database, each row once.

A row is identified by its segment, its line in the segment, and its index in the request: a unique
index of the table. If a process dies after it stores a segment and before it removes the file,
storing the segment again has no effect.
"""

import argparse
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from .. import settings
from ..contract import CONTRACT
from ..errors import ProjectError, brief
from ..tables.databases import engine, transaction
from ..tables.migrate import ensure, require_type, target_type
from .processes import backoff
from .spool import REFUSED, Record, held, segments

# Rows in one statement.
CHUNK_ROWS = 1_000
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.25, 30.0
DATABASE_SECONDS = 30.0
# Classes and codes of SQLSTATE for data that the database will never accept.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
HOPELESS = ("22", "23", "54", "42804")
RECORDS = msgspec.json.Decoder(Record)
log = logging.getLogger(__name__)
predictions = sa.Table(
    "kept_predictions",
    sa.MetaData(),
    # SQLite numbers rows only in a column of exactly this type.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("segment", sa.String(64)),
    sa.Column("line", sa.Integer),
    # Counted from 0 within the request.
    sa.Column("row", sa.Integer, nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    # By which its label finds a prediction: the key if it was sent, else request and row.
    sa.Column("row_id", sa.Text),
    # UTC, also in SQLite, which has no time zones.
    sa.Column("predicted_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("client", sa.String(261), nullable=False),
    sa.Column("model", sa.String(100), nullable=False),
    sa.Column("model_version", sa.String(64), nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("prediction", target_type(CONTRACT.target)),
    sa.Column("probability", sa.Double),
    sa.Index("ix_predictions_segment", "segment", "line", "row", unique=True),
    sa.Index("ix_predictions_request_id", "request_id"),
    sa.Index("ix_predictions_row_id", "row_id"),
    sa.Index("ix_predictions_predicted_at", "predicted_at"),
    sa.Index("ix_predictions_model_version", "model_version", "predicted_at"),
)


def add_arguments(_: argparse.ArgumentParser) -> None:
    pass


def run(_: argparse.Namespace) -> int:
    """Deliver the waiting segments; returns 1 if some are left."""
    config = settings.load()
    folder = Path(config.keeping.spool)
    Delivery(folder, config.database).deliver()
    left = len(segments(folder))
    print(f"{left} segments are left in {folder}." if left else "Nothing waits.")
    return 1 if left else 0


class Delivery:
    """Delivers segments to the database whenever ``step`` is called.

    While the database is down, it tries less and less often; segments wait up to the spool's limit.

    :param told: called with an event and its count: "delivered" rows, "failed" tries, "damaged"
        lines, or "refused" segments, which the database will never accept.
    """

    def __init__(
        self,
        folder: Path,
        database: str,
        told: Callable[[str, int], None] = lambda event, count: None,
    ) -> None:
        self.folder, self.database, self.told = folder, database, told
        self._engine: sa.Engine | None = None
        self._seen = False
        self._failures, self._due = 0, 0.0

    def step(self, now: bool = False) -> None:
        """Deliver the waiting segments if a try is due, or ``now``; never raises."""
        if time.monotonic() < self._due and not now:
            return
        try:
            self.deliver()
            if self._failures:
                log.warning("predictions are delivered again")
            self._failures = 0
        except Exception as error:  # any error: the next try may work
            if not self._failures:
                log.warning("predictions wait in %s: %s", self.folder, brief(error))
            self._failures += 1
            self._due = time.monotonic() + backoff(
                RETRY_SECONDS, self._failures, LONGEST_RETRY_SECONDS
            )
            self.told("failed", 1)

    def deliver(self) -> None:
        """:raises ProjectError: the database cannot be used."""
        try:
            for segment in segments(self.folder):
                with held(segment) as free:
                    if free:
                        self._deliver(segment)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _deliver(self, segment: Path) -> None:
        if self._engine is None:
            # A database that was there and is gone, perhaps with its disk, is not created again.
            self._engine = engine(self.database, not self._seen, DATABASE_SECONDS)
            with transaction(self._engine, self.database) as connection:
                ensure(connection, self.database, CONTRACT.target)
                require_type(connection, self.database, CONTRACT.target)
            self._seen = True
        counts = {"delivered": 0, "damaged": 0}
        try:
            with transaction(self._engine, self.database) as connection:
                found = rows(segment, counts)
                while chunk := list(islice(found, CHUNK_ROWS)):
                    counts["delivered"] += insert(connection, chunk)
        except Exception as error:
            if not hopeless(error):
                raise
            self._refuse(segment, error)
            return
        if counts["damaged"]:
            log.warning("%s: %d damaged lines were left out", segment.name, counts["damaged"])
        for event in filter(counts.get, counts):
            self.told(event, counts[event])
        segment.unlink()

    def _refuse(self, segment: Path, error: Exception) -> None:
        refused = self.folder / REFUSED / segment.name
        refused.parent.mkdir(exist_ok=True)
        segment.rename(refused)
        log.error("the database will not take a segment, see %s: %s", refused, brief(error))
        self.told("refused", 1)


def insert(connection: sa.Connection, chunk: list[dict]) -> int:
    """Insert the rows that are not in the table yet; returns how many were inserted."""
    if connection.dialect.name == "postgresql":  # one statement, not a round trip for each row
        statement = postgresql.insert(predictions).values(chunk).on_conflict_do_nothing()
        return connection.execute(statement).rowcount
    return connection.execute(sqlite.insert(predictions).on_conflict_do_nothing(), chunk).rowcount


def rows(segment: Path, counts: dict[str, int]) -> Iterator[dict]:
    """The rows of a segment for ``kept_predictions``; unreadable lines are counted.

    A process that is killed during a write leaves such a line; its request was not answered.
    """
    with segment.open("rb") as lines:
        for number, line in enumerate(lines):
            try:
                record = read(line)
            except ValueError:
                counts["damaged"] += 1
                continue
            for row in rows_of(record):
                yield {"segment": segment.stem, "line": number, **row}


def read(line: bytes) -> Record:
    """:raises ValueError: the line is not a complete record."""
    record = RECORDS.decode(line)
    columns = [*record.inputs.values(), record.predictions]
    if record.probabilities is not None:
        columns.append(record.probabilities)
    if not record.inputs or len({len(values) for values in columns}) > 1:
        raise ValueError("the columns differ in length")
    if CONTRACT.target.type == "date":
        record.predictions = [
            None if day is None else date.fromisoformat(str(day)) for day in record.predictions
        ]
    return record


def rows_of(record: Record) -> Iterator[dict]:
    common = {
        "request_id": name(record.request_id, 64),
        "predicted_at": datetime.fromtimestamp(record.time, UTC),
        "client": name(record.client, 261),
        "model": name(record.model, 100),
        "model_version": name(record.version, 64),
    }
    keys = record.inputs.get(CONTRACT.key.name) if CONTRACT.key else None
    probabilities = record.probabilities or [None] * len(record.predictions)
    inputs = zip(*record.inputs.values(), strict=True)
    answers = zip(inputs, record.predictions, probabilities, strict=True)
    for row, (values, prediction, probability) in enumerate(answers):
        yield {
            **common,
            "row": row,
            "row_id": str(keys[row]) if keys else f"{common['request_id']}/{row}",
            "inputs": dict(zip(record.inputs, values, strict=True)),
            "prediction": prediction,
            "probability": probability,
        }


def name(text: str, longest: int) -> str:
    """A name that every database accepts, so that a strange one does not cost its segment."""
    return text[:longest].replace("\0", "\N{REPLACEMENT CHARACTER}")


def hopeless(error: BaseException) -> bool:
    """Whether the database will never accept this data, rather than just not now."""
    # databases.transaction turns the database's error into a ProjectError.
    cause = error.__context__ if isinstance(error, ProjectError) else error
    if isinstance(cause, StatementError) and not isinstance(cause, DBAPIError):
        return True  # SQLAlchemy could not convert a value
    return isinstance(cause, (IntegrityError, DataError, OverflowError)) or sqlstate(
        cause
    ).startswith(HOPELESS)


def sqlstate(error: BaseException | None) -> str:
    """The SQLSTATE that PostgreSQL reports through pg8000; empty for other errors."""
    answer = next(iter(getattr(getattr(error, "orig", None), "args", ())), None)
    return str(answer.get("C", "")) if isinstance(answer, dict) else ""
