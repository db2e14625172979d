"""The server's side of a connection, with bounds that uvicorn leaves open.

A connection that does not finish the head of a request in time is closed, as slow-loris clients
never do; so is one whose head is too large, and one beyond the most that may be open.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .problems import CONTENT_TYPE, Problem
from .settings import Api

HEAD, CONTINUE = b"HTTP/1.1 ", b"HTTP/1.1 100 "


class OneWrite:
    """A transport that sends the head of an answer together with what follows it.

    A packet and a system call less for every answer, which is a tenth of what it costs.
    """

    def __init__(self, transport) -> None:
        self._transport, self._head = transport, b""

    def __getattr__(self, name: str):
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data.startswith(HEAD) and not data.startswith(CONTINUE):
            self._head += data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 within the limits of ``[api]``; ``limits`` is set before the server starts."""

    limits: Api

    def connection_made(self, transport) -> None:
        super().connection_made(OneWrite(transport))
        self._waiting_since: float | None = self.loop.time()
        self._head_bytes = 0
        self._watch = self.loop.call_later(self.limits.header_seconds, self._check)
        if len(self.connections) > self.limits.max_connections:
            detail = "too many connections are open; try again."
            self._refuse(Problem(503, "connections", detail, {"Retry-After": "1"}))

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._waiting_since is not None:
            self._head_bytes += len(data)
            self._require_small_head(self._head_bytes)

    def on_message_begin(self) -> None:
        self._waiting_since, self._head_bytes = self.loop.time(), 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._waiting_since = None
        if self._require_small_head(len(self.url) + sum(map(_size, self.headers))):
            super().on_headers_complete()

    def on_response_complete(self) -> None:
        self.transport.flush()  # an answer without a body
        super().on_response_complete()

    def _require_small_head(self, size: int) -> bool:
        if size <= self.limits.max_header_bytes:
            return True
        detail = f"the head is larger than {self.limits.max_header_bytes} bytes."
        self._refuse(Problem(431, "header_size", detail))
        return False

    def _check(self) -> None:
        """Close a connection whose head takes too long; one look for each ``header_seconds``."""
        rest = self.limits.header_seconds
        if self._waiting_since is not None:
            rest += self._waiting_since - self.loop.time()
        if rest > 0:
            self._watch = self.loop.call_later(rest, self._check)
        elif self._head_bytes:
            detail = f"the head took longer than {self.limits.header_seconds:g} seconds."
            self._refuse(Problem(408, "header_time", detail))
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, "malformed", "this is no HTTP/1.1 request."))

    def _refuse(self, problem: Problem) -> None:
        """Answer outside of any request, and close."""
        if self.transport.is_closing():
            return
        body = problem.body("", "")
        head = [f"HTTP/1.1 {problem.status} {problem.title}", f"content-type: {CONTENT_TYPE}"]
        head += [f"content-length: {len(body)}", "connection: close"]
        head += [f"{name.lower()}: {value}" for name, value in problem.headers.items()]
        self.transport.write("\r\n".join([*head, "\r\n"]).encode() + body)
        self.transport.close()


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1])
