"""Logs of the API: one JSON object a line, to the standard output and to log/.

A line is made in microseconds and written later, together with others, by a thread. When the disk
is full or the reader of the output is stuck, lines are dropped and counted, and requests go on.
"""

import logging
import os
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

import msgspec

from ..settings import PACKAGE
from ..tables.locks import numbered

MOST_LINES = 50_000
FLUSH_SECONDS = 0.2
# All that one worker leaves in log/: this many bytes in each of the current and the older files.
LOG_BYTES, LOG_FILES = 5_000_000, 3


class Access(msgspec.Struct):
    """What is logged of a request: nothing of what it holds."""

    time: str
    level: str
    event: str
    request_id: str
    method: str
    path: str
    status: int
    code: str
    client: str
    ms: float


class JsonLines(logging.Handler):
    """Every log record, and every request, on its way to the sinks.

    :param name: of the file; without one it is a number that no other process holds, because two
        must not rotate the same file.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        super().__init__()
        self._sinks: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
        if os.access(folder, os.W_OK):
            if not name:
                number, self._lock_of_name = numbered(folder / ".locks")
                name = str(number + 1)
            file = folder / f"{PACKAGE}-api-{name}.log"
            self._sinks.append(RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=LOG_FILES))
        self._lines: deque[bytes] = deque()
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._second, self._stamp = 0, ""
        self._dropped = 0
        self._writing = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)

    def install(self, level: str) -> None:
        """Become the only handler of this process."""
        logging.raiseExceptions = False  # a full disk must not bury what goes elsewhere
        logging.basicConfig(level=level, handlers=[self], force=True)
        for name in ("uvicorn", "uvicorn.error"):
            logging.getLogger(name).handlers = []
            logging.getLogger(name).propagate = True
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        line = {
            "time": self._time(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["error"] = logging.Formatter().formatException(record.exc_info)
        self._add(self._encode(line))

    def request(self, call, method: str, path: str, status: int, seconds: float) -> None:
        """One request and its answer."""
        level = "warning" if status >= 500 else "info"
        line = Access(
            self._time(time.time()),
            level,
            "request",
            call.request_id,
            method,
            path,
            status,
            call.code,
            call.client,
            round(seconds * 1000, 3),
        )
        self._add(self._encode(line))

    def _time(self, seconds: float) -> str:
        """In UTC, to the millisecond; the date and the second are made once a second."""
        whole = int(seconds)
        if whole != self._second:
            self._second = whole
            self._stamp = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self._stamp}.{int((seconds - whole) * 1000):03d}+00:00"

    def _add(self, line: bytes) -> None:
        if len(self._lines) < MOST_LINES:
            self._lines.append(line)
        else:
            self._dropped += 1

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(5)
        super().close()

    def _write(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Write the lines so far; takes as long as the reader of the output does."""
        with self._writing:
            if self._dropped:
                self._lines.append(self._encode({"event": "lines dropped", "count": self._dropped}))
                self._dropped = 0
            # Meanwhile others are added.
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                record = logging.makeLogRecord({"msg": b"\n".join(lines).decode()})
                for sink in self._sinks:
                    sink.handle(record)
