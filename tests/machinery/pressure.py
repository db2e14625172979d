"""HTTP/1.1 load from one process, and what became of every single request.

Without dependencies and cheap per request, so that a test on one machine measures the server: the
answers are read as far as their status and Content-Length.
"""

import asyncio
import math
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

CONNECTIONS, SECONDS = 1_000, 600
HEAD_BYTES, BODY_BYTES = 65_536, 64_000_000
# How long to wait for a connection, before the next try of one, and for the last answers.
CONNECT_SECONDS, PAUSE_SECONDS, GRACE_SECONDS = 5.0, 0.02, 10.0
# Latencies are counted in steps of this, so that their memory is bounded.
STEP_SECONDS = 1e-5
# The status of an answer that is none.
BROKEN = 0


@dataclass
class Outcome:
    """What became of the requests: ``sent == answered + lost + unanswered``.

    ``lost`` were sent on a connection that closed before a whole answer, ``unanswered`` were
    still waiting at the end. ``connection_errors`` counts connections that could not be opened.
    """

    sent: int = 0
    lost: int = 0
    unanswered: int = 0
    connection_errors: int = 0
    seconds: float = 0.0
    # Of each status how many answers took how many steps.
    latencies: dict[int, Counter] = field(default_factory=dict)

    @property
    def statuses(self) -> dict[int, int]:
        """How many answers had which status; 0 stands for what is no answer in HTTP/1.1."""
        return {status: steps.total() for status, steps in sorted(self.latencies.items())}

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def latency(self, share: float, status: int | None = None) -> float:
        """Seconds within which ``share`` of the answers came, of one status or of all; else NaN."""
        wanted = [each for code, each in self.latencies.items() if status in (None, code)]
        steps = sum(wanted, Counter())
        left = math.ceil(share * steps.total())
        for step in sorted(steps):
            left -= steps[step]
            if left <= 0:
                return step * STEP_SECONDS
        return math.nan

    def __str__(self) -> str:
        times = ", ".join(
            f"p{share * 100:.0f} of {name} {self.latency(share, status) * 1000:.2f} ms"
            for name, status in (("200s", 200), ("all", None))
            for share in (0.5, 0.99)
        )
        return (
            f"{self.sent} sent, {self.answered} answered ({self.rate:.0f}/s) {self.statuses}, "
            f"{self.lost} lost, {self.unanswered} unanswered, "
            f"{self.connection_errors} connection errors; {times}"
        )


class _Connection(asyncio.Protocol):
    """Sends the request, waits for the whole answer, sends it again."""

    def __init__(self, request: bytes, until: float, outcome: Outcome) -> None:
        self.request, self.until, self.outcome = request, until, outcome
        self.closed = asyncio.get_running_loop().create_future()
        self.waiting, self.received, self.length = False, b"", 0

    def connection_made(self, transport) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.started = time.perf_counter()
        if self.started >= self.until:
            self.transport.close()
            return
        self.waiting, self.received, self.length = True, b"", 0
        self.outcome.sent += 1
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received = self.received + data if self.received else data
        if not self.length:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                if len(self.received) > HEAD_BYTES:
                    self._end(BROKEN, close=True)
                return
            self._read_head(self.received[:end].lower(), end + 4)
        if self.waiting and len(self.received) >= self.length:
            more = len(self.received) > self.length  # than was asked for
            self._end(BROKEN if more else self.status, self.closing or more)

    def _read_head(self, head: bytes, body: int) -> None:
        self.closing = b"\r\nconnection: close" in head
        _, found, after = head.partition(b"\r\ncontent-length:")
        try:
            self.status = int(head[9:12])
            size = int(after.partition(b"\r\n")[0]) if found else 0
        except ValueError:
            size = -1
        whole = head.startswith(b"http/1.1 ") and (found or self.status in (204, 304))
        if not whole or not 0 <= size <= BODY_BYTES:
            self._end(BROKEN, close=True)
        self.length = body + size

    def _end(self, status: int, close: bool) -> None:
        if not self.waiting:
            return
        self.waiting = False
        step = int((time.perf_counter() - self.started) / STEP_SECONDS)
        self.outcome.latencies.setdefault(status, Counter())[step] += 1
        if close:
            self.transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self.outcome.lost += self.waiting
        self.waiting = False
        if not self.closed.done():
            self.closed.set_result(None)

    def give_up(self) -> None:
        self.outcome.unanswered += self.waiting
        self.waiting = False
        self.transport.abort()


async def _keep_sending(host: str, port: int, request: bytes, until: float, outcome: Outcome):
    """One connection at a time, opened again when it was closed, until the time is over."""
    loop = asyncio.get_running_loop()
    while time.perf_counter() < until:
        try:
            opening = loop.create_connection(
                lambda: _Connection(request, until, outcome), host, port
            )
            _, connection = await asyncio.wait_for(opening, CONNECT_SECONDS)
        except OSError:  # a TimeoutError too
            outcome.connection_errors += 1
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        end = until + GRACE_SECONDS - time.perf_counter()
        with suppress(TimeoutError):
            await asyncio.wait_for(connection.closed, end)
        connection.give_up()


def pressure(host: str, port: int, request: bytes, connections: int, seconds: float) -> Outcome:
    """Send ``request`` over and over on each of the connections; the outcome of all together.

    Each connection waits for an answer before it sends again, and is kept alive as long as the
    server lets it. Ends at most CONNECT_SECONDS + GRACE_SECONDS after ``seconds``.

    :param request: all its bytes, head and body; its answers must have a Content-Length.
    """
    if not (0 < connections <= CONNECTIONS and 0 < seconds <= SECONDS):
        raise ValueError(f"up to {CONNECTIONS} connections for up to {SECONDS} seconds")

    async def all_together() -> Outcome:
        outcome, started = Outcome(), time.perf_counter()
        arguments = host, port, request, started + seconds, outcome
        await asyncio.gather(*(_keep_sending(*arguments) for _ in range(connections)))
        outcome.seconds = time.perf_counter() - started
        return outcome

    return asyncio.run(all_together())
