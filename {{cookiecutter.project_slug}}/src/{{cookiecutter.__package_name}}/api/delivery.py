"""From the spool to the database: each kept prediction once.

One transaction takes the rows of a segment and the segment's name into the database; then its file
is removed. A process that dies in between leaves the file, and whoever finds the name of a file in
``kept_segments`` only removes it. The names are forgotten a minute after their files.

``deliver`` is a companion of the API: beside the event loop, in the same process, it would make
requests wait for the interpreter's lock.
"""

import argparse
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import sqlalchemy as sa
from filelock import Timeout
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from .. import settings
from ..contract import CONTRACT
from ..errors import ProjectError, brief
from ..tables.databases import engine, sqlite_file, transaction
from ..tables.locks import held_alone
from ..tables.migrate import ensure
from .companion import until_eof
from .json_logs import JsonLines
from .kept import claim, insert, kept_segments, rows
from .metrics import delivery_events
from .spool import REFUSED, seal_leftovers, sealed

# Rows in one statement.
CHUNK_ROWS = 1_000
# How often to look for segments.
POLL_SECONDS = 0.5
# How long the end of a companion, and a delivery by hand, may take.
LAST_SECONDS, ONCE_SECONDS = 4.0, 3600.0
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 30.0
DATABASE_SECONDS = 30.0
# After a power cut a removed file may be back; its name is remembered for longer than that takes.
FORGET_SECONDS = 60.0
# Classes and codes of SQLSTATE that say: not this data, however often it is tried.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
HOPELESS = ("22", "23", "54", "42804")
log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--until-eof", action="store_true", help="end with the standard input")


def run(arguments: argparse.Namespace) -> int:
    """Deliver what waits; returns 1 if something is left. As a companion, go on until then."""
    config = settings.load()
    keeping = config.keeping
    folder, ended = Path(keeping.spool), threading.Event()
    folder.mkdir(parents=True, exist_ok=True)
    delivery = Delivery(folder, config.database, delivery_events())
    if arguments.until_eof:
        JsonLines(settings.root() / "log", "delivery").install(config.log_level)
        until_eof(ended.set)
    if not arguments.until_eof and not delivery.leads():
        raise ProjectError(f"a running API delivers what waits in {folder}.")
    if not arguments.until_eof:
        seal_leftovers(folder)
    delivery.start()
    if arguments.until_eof:
        ended.wait()
        delivery.stop(LAST_SECONDS)
        return 0
    delivery.stop(ONCE_SECONDS)
    left = len(sealed(folder))
    print(f"{left} segments wait in {folder}; the log says why." if left else "Nothing waits.")
    return 1 if left else 0


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
        self._lock = held_alone(spool_folder / "delivery.lock")
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._stopping = threading.Event()
        self._until = float("inf")
        self._engine: sa.Engine | None = None
        self._outage = self._looked = False
        # Removed segments whose names are still in the database, with the time of removal.
        self._removed: deque[tuple[float, str]] = deque()

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Deliver what is sealed, then end; what fails or takes longer waits for the next start."""
        self._until = time.monotonic() + seconds
        self._stopping.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        failures = 0
        while True:
            try:
                if self.leads():
                    self._look()
                    self._deliver_all()
                failures = 0
            except Exception as error:  # a thread that ends would deliver nothing any more
                failures += 1
                self._disconnect()
                self._tell_of_outage(error)
            if self._stopping.is_set() and (failures or self._late() or not sealed(self.folder)):
                break
            if self._stopping.wait(retry_seconds(failures) if failures else POLL_SECONDS):
                time.sleep(0.05)  # what is left may be another process's to deliver
        self._disconnect()
        self._lock.release()

    def leads(self) -> bool:
        """Whether this process is the one that delivers."""
        if not self._lock.is_locked:
            try:
                self._lock.acquire()
            except Timeout:
                return False
        return True

    def _look(self) -> None:
        """Open a database that is there before the first segment: its faults are told at once."""
        file = sqlite_file(self.database)
        if not self._looked and (file is None or file.exists()):
            self._connect()
        self._looked = True

    def _late(self) -> bool:
        return time.monotonic() > self._until

    def _deliver_all(self) -> None:
        for segment in sealed(self.folder):
            if self._late():
                return
            self._connect()
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
        counts = {"delivered": 0, "damaged": 0}
        forgotten = self._forgettable()
        with transaction(self._engine, self.database) as connection:
            if forgotten:
                names = kept_segments.c.name.in_(forgotten)
                connection.execute(sa.delete(kept_segments).where(names))
            if claim(connection, segment.stem):
                found = rows(segment, counts)
                while chunk := list(islice(found, CHUNK_ROWS)):
                    insert(connection, chunk)
                    counts["delivered"] += len(chunk)
        if counts["damaged"]:
            log.warning("%s: %d damaged lines were left out", segment.name, counts["damaged"])
        for event in filter(counts.get, counts):
            self.on_event(event, counts[event])
        for _ in forgotten:
            self._removed.popleft()
        segment.unlink(missing_ok=True)
        self._removed.append((time.monotonic(), segment.stem))

    def _connect(self) -> None:
        """Open the database; an empty one gets its tables, one that is behind takes nothing."""
        if self._engine is None:
            self._engine = engine(self.database, create=True, seconds=DATABASE_SECONDS)
            with transaction(self._engine, self.database) as connection:
                ensure(connection, self.database, CONTRACT.target)

    def _disconnect(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

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
        if not self._outage:
            log.warning("predictions wait in %s: %s", self.folder, brief(error))
            self._outage = True
        self.on_event("failed", 1)


def hopeless(error: BaseException) -> bool:
    """Whether the database will never take this data, as opposed to not now."""
    # databases.transaction makes a ProjectError of the database's own.
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
