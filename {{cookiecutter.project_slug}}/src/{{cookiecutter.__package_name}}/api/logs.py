"""Logs of the API: one JSON object per line, on standard output.

A line is made in microseconds; a thread writes it later, together with others. When the reader of
the output is stuck, lines are dropped and counted, and requests go on.
"""

import logging
import sys
import threading
from collections import deque
from datetime import UTC, datetime

import msgspec

MOST_LINES = 50_000
FLUSH_SECONDS = 0.2


class JsonLines(logging.Handler):
    """Writes every log record and every request to standard output."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[bytes] = deque()
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._dropped, self._writing = 0, threading.Lock()

    def install(self, level: str) -> None:
        """Become the only handler of this process."""
        logging.basicConfig(level=level, handlers=[self], force=True)
        threading.Thread(target=self._write, name="logs", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["error"] = logging.Formatter().formatException(record.exc_info)
        self._add(line)

    def request(self, call, method: str, path: str, status: int, seconds: float) -> None:
        """Log one request and its answer, without their contents."""
        self._add(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "level": "warning" if status >= 500 else "info",
                "event": "request",
                "request_id": call.request_id,
                "method": method,
                "path": path,
                "status": status,
                "code": call.code,
                "client": call.client,
                "ms": round(seconds * 1000, 3),
            }
        )

    def _add(self, line: dict) -> None:
        if len(self._lines) < MOST_LINES:
            self._lines.append(self._encode(line))
        else:
            self._dropped += 1

    def _write(self) -> None:
        while True:
            threading.Event().wait(FLUSH_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Write the lines so far; blocks while the reader of the output is slow."""
        with self._writing:
            if self._dropped:
                self._lines.append(self._encode({"event": "lines dropped", "count": self._dropped}))
                self._dropped = 0
            # Only as many as there are now: others are added meanwhile.
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
                sys.stdout.buffer.flush()
