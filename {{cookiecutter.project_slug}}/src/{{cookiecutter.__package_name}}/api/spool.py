"""Predictions on their way to the database, kept on the local disk first.

A worker appends to a file of its own before it answers, so that what was answered survives the
process, however it dies. It is not synced: a power cut may cost what the system had not written
yet. A worker holds its file by a lock, which ends with the process: kept.py takes the files that
nobody holds to the database.
"""

import fcntl
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

from ..errors import ProjectError

SEGMENT = ".jsonl"
# Folder of the segments that the database will never take.
REFUSED = "refused"
LARGEST_SEGMENT = 4 << 20
# With so many segments the database is down or slow: from then on only full ones are handed over,
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
    """A worker's end of the spool, used by one thread.

    :param limit_bytes: of all files together. Other workers' files are measured once a second, so
        the limit may be passed by what they write within one.
    :raises ProjectError: the folder cannot be written.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit, self.filled = folder, limit_bytes, 0
        self._file: BinaryIO | None = None
        self._size = self._waiting = self._lost = self._lost_before = 0
        try:
            self._open()
        except OSError as error:
            raise ProjectError(f"{folder}: predictions cannot be kept here: {error}.") from None

    def append(self, record: bytes) -> bool:
        """Keep a line of JSON. Returns False, and keeps nothing of it, when the spool or the disk
        is full. Never raises."""
        if self.filled + len(record) > self.limit:
            return self._lose(f"{self.filled} of {self.limit} bytes are taken")
        try:
            file = self._file or self._open()
            if (written := file.write(record)) < len(record):
                # Or the next would be damaged by the part that is there.
                file.truncate(self._size)
                file.seek(self._size)
                raise OSError(f"only {written} of {len(record)} bytes could be written")
        except OSError as error:
            return self._lose(str(error))
        self._size += len(record)
        self.filled += len(record)
        return True

    def tick(self) -> None:
        """Hand over what was written so far; to be called about once a second. Never raises."""
        segments = [*self.folder.glob(f"*{SEGMENT}"), *self.folder.glob(f"{REFUSED}/*{SEGMENT}")]
        self._waiting, self.filled = len(segments), 0
        for segment in segments:
            with suppress(OSError):  # it was delivered and removed just now
                self.filled += segment.stat().st_size
        if self._lost and self._lost == self._lost_before and self._size:
            log.warning("%s: predictions are kept again; %d were not", self.folder, self._lost)
            self._lost = 0
        self._lost_before = self._lost
        if self._size and (self._waiting < WAITING or self._size > LARGEST_SEGMENT):
            self.close()

    def close(self) -> None:
        """Let go of the file: whoever delivers may have it."""
        if self._file:
            self._file.close()
        self._file, self._size = None, 0

    def _open(self) -> BinaryIO:
        # Under its own name only once it is held, or it could be taken for one that nobody holds.
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}{SEGMENT}"
        unheld = self.folder / f"{name}.new"
        (self.folder / REFUSED).mkdir(parents=True, exist_ok=True)
        new = os.open(unheld, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        file = os.fdopen(new, "wb", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            unheld.rename(self.folder / name)
        except OSError:
            file.close()
            unheld.unlink(missing_ok=True)
            raise
        self._file, self._size = file, 0
        return file

    def _lose(self, why: str) -> bool:
        if not self._lost:
            log.error("%s: predictions are answered but not kept: %s", self.folder, why)
        self._lost += 1
        return False


def segments(folder: Path) -> list[Path]:
    """The files of the spool, those that are being written, too, in the order of their begin."""
    return sorted(folder.glob(f"*{SEGMENT}"))


@contextmanager
def held(segment: Path) -> Iterator[bool]:
    """Hold a segment while it is delivered; False where somebody else does, or it has gone."""
    with suppress(FileNotFoundError), segment.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = segment.exists()
        except BlockingIOError:
            free = False
        yield free
        return
    yield False
