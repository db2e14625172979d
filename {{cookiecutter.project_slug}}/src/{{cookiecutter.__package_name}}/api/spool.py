"""The spool: predictions on the local disk, before they are delivered to the database.

A worker appends to its own file before it answers, so that answered predictions survive when the
process dies. The file is not synced: a power cut may lose what the system has not written yet. A
worker locks its file, and the lock ends with the process. kept.py delivers the files that no
process holds.
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
# Folder of the segments that the database will never accept.
REFUSED = "refused"
LARGEST_SEGMENT = 4 << 20
# With this many segments the database is down or slow: from then on only full segments are closed,
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
    """A worker's writer to the spool, used by one thread.

    :param limit_bytes: of all files together. Other workers' files are measured once a second, so
        what they write within a second may exceed it.
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
                # Remove the part that was written, which would damage the next record.
                file.truncate(self._size)
                file.seek(self._size)
                raise OSError(f"only {written} of {len(record)} bytes could be written")
        except OSError as error:
            return self._lose(str(error))
        self._size += len(record)
        self.filled += len(record)
        return True

    def tick(self) -> None:
        """Release the file for delivery; call this about once a second. Never raises."""
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
        """Close the file, which releases it for delivery."""
        if self._file:
            self._file.close()
        self._file, self._size = None, 0

    def _open(self) -> BinaryIO:
        # It gets its name once it is locked: before, it could be delivered while it is written.
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
    """The files of the spool, also those that are being written, in the order of creation."""
    return sorted(folder.glob(f"*{SEGMENT}"))


@contextmanager
def held(segment: Path) -> Iterator[bool]:
    """Lock a segment while it is delivered; False if another process does, or it is gone."""
    with suppress(FileNotFoundError), segment.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = segment.exists()
        except BlockingIOError:
            free = False
        yield free
        return
    yield False
