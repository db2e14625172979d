"""From the spool to the predictions database: each kept prediction once.

One transaction takes the rows of a segment and the segment's name into the database; then its file
is removed. A process that dies in between leaves the file, and whoever finds the name of a file in
``kept_segments`` only removes it. The names are forgotten a minute after their files.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from .columns import Column
from .contract import CONTRACT
from .databases import connect
from .errors import ProjectError, brief
from .spool import REFUSED, sealed

TYPES = {
    "float": sa.Double,
    "integer": sa.BigInteger,
    "boolean": sa.Boolean,
    "category": sa.Text,
    "date": sa.Date,
}
# Rows in one statement: after each, other threads get the interpreter's lock, within milliseconds.
CHUNK_ROWS = 100
# How often to look for segments of other workers, who cannot wake this process.
POLL_SECONDS = 1.0
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 30.0
DATABASE_SECONDS = 30.0
# After a power cut a removed file may be back; its name is remembered for longer than that takes.
FORGET_SECONDS = 60.0
# Classes and codes of SQLSTATE that say: not this data, however often it is tried.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
HOPELESS = ("22", "23", "54", "42804")
log = logging.getLogger(__name__)
metadata = sa.MetaData()


def target_type(target: Column) -> sa.types.TypeEngine:
    """How a prediction is stored."""
    return (sa.BigInteger if target.numbered else TYPES[target.type])()


predictions = sa.Table(
    "predictions",
    metadata,
    # SQLite numbers its rows only in a column of this very type.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("request_id", sa.String(64), nullable=False, index=True),
    # Counted from 0 within the request.
    sa.Column("row", sa.Integer, nullable=False),
    # UTC, also in SQLite, which has no time zones.
    sa.Column("predicted_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("client", sa.String(100), nullable=False),
    sa.Column("model", sa.String(100), nullable=False),
    sa.Column("model_version", sa.String(64), nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("prediction", target_type(CONTRACT.target)),
    sa.Column("probability", sa.Double),
)
kept_segments = sa.Table(
    "kept_segments", metadata, sa.Column("name", sa.String(64), primary_key=True)
)


class Record(msgspec.Struct):
    """A line of the spool: the rows of one request, as columns."""

    request_id: str
    time: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    client: str
    model: str
    version: str
    inputs: dict[str, list]
    predictions: list
    probabilities: list[float | None] | None = None


RECORDS = msgspec.json.Decoder(Record)


class Delivery:
    """A thread that delivers sealed segments, in one process at a time for each spool.

    The others wait for its place. While the database is down it tries forever, at most every
    LONGEST_RETRY_SECONDS; the spool's limit is the bound.

    :param on_event: called in the thread with "delivered" and rows, "failed" and 1 for each try,
        "damaged" and lines, "refused" and 1 for each segment that the database will never take.
    """

    def __init__(
        self, spool_folder: Path, database: str, on_event: Callable[[str, int], None]
    ) -> None:
        self.folder, self.database, self.on_event = spool_folder, database, on_event
        self._lock = FileLock(spool_folder / "delivery.lock", timeout=0, thread_local=False)
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._until = float("inf")
        self._prepared = self._outage = False
        # Removed segments whose names are still in the database, with the time of removal.
        self._removed: deque[tuple[float, str]] = deque()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look for segments now; for use after a seal."""
        self._woken.set()

    def stop(self, seconds: float) -> None:
        """Deliver what is sealed, then end; what fails or takes longer waits for the next start."""
        self._until = time.monotonic() + seconds
        self._stopping.set()
        self._woken.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        failures = 0
        while True:
            self._woken.clear()
            try:
                if self._leads():
                    self._deliver_all()
                failures = 0
            except Exception as error:  # a thread that ends would deliver nothing any more
                failures += 1
                self._tell_of_outage(error)
            if self._stopping.is_set() and (failures or self._late() or not sealed(self.folder)):
                break
            if failures:
                self._stopping.wait(retry_seconds(failures))
            else:
                self._woken.wait(0.05 if self._stopping.is_set() else POLL_SECONDS)
        self._lock.release()

    def _leads(self) -> bool:
        """Whether this process is the one that delivers."""
        if not self._lock.is_locked:
            try:
                self._lock.acquire()
            except Timeout:
                return False
        return True

    def _late(self) -> bool:
        return time.monotonic() > self._until

    def _deliver_all(self) -> None:
        for segment in sealed(self.folder):
            if self._late():
                return
            try:
                self._deliver(segment)
            except Exception as error:
                if not hopeless(error):
                    raise
                self._refuse(segment, error)
            if self._outage:
                log.warning("predictions are delivered again")
                self._outage = False

    def _deliver(self, segment: Path) -> None:
        self._prepare()
        counts = {"delivered": 0, "damaged": 0}
        forgotten = self._forgettable()
        with connect(self.database, create=True, seconds=DATABASE_SECONDS) as connection:
            if forgotten:
                names = kept_segments.c.name.in_(forgotten)
                connection.execute(sa.delete(kept_segments).where(names))
            if claim(connection, segment.stem):
                rows = kept_rows(segment, counts)
                while chunk := list(islice(rows, CHUNK_ROWS)):
                    insert(connection, chunk)
                    counts["delivered"] += len(chunk)
                    time.sleep(0)  # another thread may have the interpreter's lock
        if counts["damaged"]:
            log.warning("%s: %d damaged lines were left out", segment.name, counts["damaged"])
        for event in filter(counts.get, counts):
            self.on_event(event, counts[event])
        for _ in forgotten:
            self._removed.popleft()
        segment.unlink(missing_ok=True)
        self._removed.append((time.monotonic(), segment.stem))

    def _prepare(self) -> None:
        """Create the tables where they are missing, in a transaction of its own."""
        if not self._prepared:
            with connect(self.database, create=True, seconds=DATABASE_SECONDS) as connection:
                metadata.create_all(connection)
            self._prepared = True

    def _forgettable(self) -> list[str]:
        """The longest removed segments whose names may leave the database, some at a time."""
        before = time.monotonic() - FORGET_SECONDS
        return [name for removed, name in islice(self._removed, 100) if removed < before]

    def _refuse(self, segment: Path, error: Exception) -> None:
        refused = self.folder / REFUSED / segment.name
        refused.parent.mkdir(exist_ok=True)
        segment.rename(refused)
        log.error("the database will not take a segment, see %s: %s", refused, error)
        self.on_event("refused", 1)

    def _tell_of_outage(self, error: Exception) -> None:
        self._prepared = False
        self.on_event("failed", 1)
        if not self._outage:
            log.warning("predictions wait in %s: %s", self.folder, brief(error))
            self._outage = True


def claim(connection: sa.Connection, name: str) -> bool:
    """Take a segment's name into the transaction; False where it was delivered before.

    :raises ProjectError: another process is just delivering it.
    """
    same = sa.select(kept_segments.c.name).where(kept_segments.c.name == name)
    if connection.scalar(same) is not None:
        return False
    with suppress(IntegrityError):
        connection.execute(sa.insert(kept_segments), {"name": name})
        return True
    raise ProjectError(f"segment {name} is being delivered by another process.")


def kept_rows(segment: Path, counts: dict[str, int]) -> Iterator[dict]:
    """The rows of a segment for the table ``predictions``; a line that cannot be read is counted.

    A kill in the middle of a write leaves such a line; it was not answered.
    """
    with segment.open("rb") as lines:
        for line in lines:
            try:
                record = read(line)
            except ValueError:
                counts["damaged"] += 1
            else:
                yield from rows_of(record)


def read(line: bytes) -> Record:
    """:raises ValueError: it is no whole record."""
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
        # Cut to what the columns hold: a long name must not cost the prediction.
        "request_id": record.request_id[:64],
        "predicted_at": datetime.fromtimestamp(record.time, UTC),
        "client": record.client[:100],
        "model": record.model[:100],
        "model_version": record.version[:64],
    }
    probabilities = record.probabilities or [None] * len(record.predictions)
    inputs = zip(*record.inputs.values(), strict=True)
    answers = zip(inputs, record.predictions, probabilities, strict=True)
    for row, (values, prediction, probability) in enumerate(answers):
        yield {
            **common,
            "row": row,
            "inputs": dict(zip(record.inputs, values, strict=True)),
            "prediction": prediction,
            "probability": probability,
        }


def insert(connection: sa.Connection, rows: list[dict]) -> None:
    if connection.dialect.name == "postgresql":
        # As one text; as parameters they would take ten times as long to send.
        connection.execute(from_json(), {"rows": msgspec.json.encode(rows).decode()})
    else:
        connection.execute(sa.insert(predictions), rows)


@cache
def from_json() -> sa.Insert:
    """INSERT INTO predictions SELECT … FROM json_to_recordset(:rows), for PostgreSQL."""
    columns = [column for column in predictions.columns if column.name != "id"]
    text = sa.cast(sa.bindparam("rows", type_=sa.Text), sa.JSON)
    typed = [sa.column(column.name, column.type) for column in columns]
    rows = sa.func.json_to_recordset(text).table_valued(*typed, name="rows")
    rows = rows.render_derived(with_types=True)
    names = [column.name for column in columns]
    return sa.insert(predictions).from_select(names, sa.select(*rows.c))


def hopeless(error: BaseException) -> bool:
    """Whether the database will never take this data, as opposed to not now."""
    # databases.connect makes a ProjectError of the database's own.
    cause = error.__context__ if isinstance(error, ProjectError) else error
    if isinstance(cause, StatementError) and not isinstance(cause, DBAPIError):
        return True  # SQLAlchemy could not convert a value
    return isinstance(cause, (IntegrityError, DataError, OverflowError)) or sqlstate(
        cause
    ).startswith(HOPELESS)


def sqlstate(error: BaseException | None) -> str:
    """The code of PostgreSQL's answer as pg8000 gives it, otherwise an empty text."""
    answer = next(iter(getattr(getattr(error, "orig", None), "args", ())), None)
    return str(answer.get("C", "")) if isinstance(answer, dict) else ""


def retry_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row, each time another, so that replicas of the
    service do not all return at once."""
    longest = min(RETRY_SECONDS * 2 ** min(failures, 10), LONGEST_RETRY_SECONDS)
    return random.uniform(longest / 2, longest)  # noqa: S311 - no secret
