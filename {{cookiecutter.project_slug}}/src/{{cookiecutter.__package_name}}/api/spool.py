"""Predictions on their way to the database, kept on the local disk first.

The spool is a write-ahead log, and the only way, whether or not the database is up. A worker
process appends to a file of its own, ``<slot>.active``, before it answers, so what was answered
survives the process, however it dies. It is not synced: a power cut may cost what the system had
not written yet. About once a second the file is sealed: renamed to a name that no other segment in
the world has, under which delivery.py takes it to the database. The folder is on a local disk, one
for each machine.
"""

import logging
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from filelock import FileLock, Timeout

from ..errors import ProjectError
from ..tables.locks import held_alone, numbered

ACTIVE, SEALED, LOCK = ".active", ".jsonl", ".lock"
# Folder of the segments that the database will never take.
REFUSED = "refused"
# A segment is full at 1/256 of the spool's limit, within these bytes.
SMALLEST_SEGMENT, LARGEST_SEGMENT = 64 << 10, 4 << 20
# With so many sealed segments the database is down or slow: from then on only full ones are sealed,
# so that the folder holds hundreds of files, not one for each second.
WAITING = 16
log = logging.getLogger(__name__)


class Record(msgspec.Struct):
    """A line of the spool: the rows of one request, as columns; ``time`` in s since 1970."""

    request_id: str
    time: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    client: str
    model: str
    version: str
    inputs: dict[str, list]
    predictions: list
    probabilities: list[float | None] | None = None


class Spool:
    """A worker's end of the spool, used by one thread: make it in the worker, after any fork.

    :param limit_bytes: of all files together. Other workers' files are measured once a second, so
        the limit may be passed by what they write within one.
    :raises ProjectError: the folder cannot be written.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit = folder, limit_bytes
        self.segment_bytes = min(max(limit_bytes // 256, SMALLEST_SEGMENT), LARGEST_SEGMENT)
        self._file: int | None = None
        # Bytes of whole records in the active file, and whether a part of another follows them.
        self._size, self._torn = 0, False
        self._filled = self._waiting = 0
        self._lost = self._lost_before = 0
        self._closed = self._stuck = False
        try:
            (folder / REFUSED).mkdir(parents=True, exist_ok=True)
            slot, self._lock = numbered(folder)
            self._active = folder / f"{slot}{ACTIVE}"
            seal_leftovers(folder, self._lock)
        except OSError as error:
            raise ProjectError(f"{folder}: predictions cannot be kept here: {error}.") from None
        self.fill()

    def append(self, records: bytes, count: int) -> bool:
        """Keep ``count`` records, each a line of JSON with its line end, by one write to the disk.

        Returns False, and keeps none of them, when the spool or the disk is full. Never raises.
        """
        if self._closed or self._filled + len(records) > self.limit:
            return self._lose(count, f"{self._filled} of {self.limit} bytes are taken")
        try:
            self._write(records)
        except OSError as error:
            return self._lose(count, str(error))
        self._filled += len(records)
        if self._size >= self.segment_bytes:
            self._hand_over()
        return True

    def seal(self) -> None:
        """Hand over what was written so far; to be called about once a second. Never raises."""
        self.fill()
        self._tell_of_loss()
        if self._size and self._waiting < WAITING:
            self._hand_over()

    def fill(self) -> int:
        """Bytes in the folder, over all workers and with the refused segments."""
        self._filled = self._waiting = 0
        for folder in (self.folder, self.folder / REFUSED):
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    self._count(entry)
        return self._filled

    @property
    def filled(self) -> int:
        """What ``fill`` found last, and what was written since."""
        return self._filled

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._lock.release()

    def _count(self, entry: os.DirEntry) -> None:
        # A file may be delivered and removed at any moment.
        with suppress(OSError):
            if entry.name.endswith((ACTIVE, SEALED)):
                self._filled += entry.stat().st_size
                self._waiting += entry.name.endswith(SEALED)

    def _write(self, records: bytes) -> None:
        if self._file is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._file = os.open(self._active, flags, 0o600)
        self._cut_off()
        written = os.write(self._file, records)
        if written < len(records):
            self._torn = True
            self._cut_off()
            raise OSError(f"only {written} of {len(records)} bytes could be written")
        self._size += written

    def _cut_off(self) -> None:
        """Remove the part of a record that a full disk has left, or the next would be damaged."""
        if self._torn:
            os.ftruncate(self._file, self._size)
            self._torn = False

    def _hand_over(self) -> None:
        """Close the active file and seal it; what cannot be sealed stays and is tried again."""
        file, self._file = self._file, None
        try:
            if file is not None:
                os.close(file)
            if self._size or self._torn:
                _seal(self._active)
            self._size, self._torn, self._stuck = 0, False, False
        except OSError as error:
            if not self._stuck:
                log.error("%s cannot be sealed: %s", self._active, error)
            self._stuck = True

    def _lose(self, count: int, why: str) -> bool:
        if not self._lost:
            log.error("%s: predictions are answered but not kept: %s", self.folder, why)
        self._lost += count
        return False

    def _tell_of_loss(self) -> None:
        """Log the end of an outage: none was lost since the last time."""
        if self._lost and self._lost == self._lost_before:
            log.warning("%s: predictions are kept again; %d were not", self.folder, self._lost)
            self._lost = 0
        self._lost_before = self._lost


def sealed(folder: Path) -> list[Path]:
    """The segments to be delivered, in the order in which they were sealed."""
    return sorted(folder.glob(f"*{SEALED}"))


def seal_leftovers(folder: Path, mine: FileLock | None = None) -> None:
    """Seal what dead workers have left: that of this process's slot, and of those nobody holds."""
    for active in folder.glob(f"*{ACTIVE}"):
        lock = active.with_suffix(LOCK)
        held = mine if mine and str(lock) == mine.lock_file else held_alone(lock)
        with suppress(Timeout, FileNotFoundError), held:
            _seal(active)


def _seal(active: Path) -> None:
    active.rename(active.with_name(f"{time.time_ns():020d}-{uuid.uuid4().hex}{SEALED}"))
