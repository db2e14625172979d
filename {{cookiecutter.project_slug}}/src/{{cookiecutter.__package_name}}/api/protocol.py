"""The server's side of a connection, with bounds that uvicorn leaves open.

A client has so many seconds for the head of a request, for the rest of a body that nobody waits for
any more, and to read its answers; slow-loris clients are closed. So is a connection whose head
is too large, and one beyond the most that may be open.
"""

import struct
from socket import SO_LINGER, SOL_SOCKET
from types import SimpleNamespace

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..settings import Api
from .problems import CONTENT_TYPE, Problem

# How long a client that is still sending may take to read why the connection closes, and how much
# it may send meanwhile.
LINGER_SECONDS, LINGER_BYTES = 2.0, 64 << 20
# At the end of the server: how long a request may be on its way on a connection that was idle.
LAST_CALL_SECONDS = 0.5
# What SO_LINGER takes for: drop what is still to be sent.
AT_ONCE = struct.pack("ii", 1, 0)
# Requests that wait in one connection for the answer of the first; more break it off.
MOST_PIPELINED = 100
# How the head of an answer begins, and what may come before it.
HEAD, CONTINUE = b"HTTP/1.1 ", b"HTTP/1.1 100 "


class Flow(FlowControl):
    """uvicorn's, but while requests wait for their turn no more are read."""

    def __init__(self, protocol: "BoundedProtocol") -> None:
        super().__init__(protocol.transport)
        self.protocol = protocol

    def resume_reading(self) -> None:
        if not self.protocol.pipeline and not self.protocol._ignoring:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 within the limits of ``[api]``; ``limits`` is set before the server starts."""

    limits: Api
    # Whether the server of this process ends.
    ending = False

    def connection_made(self, transport) -> None:
        self._socket = transport
        # What is being received: a head, and a message that is not whole yet.
        self._in_head = self._partial = False
        self._head_bytes = self._begun = 0
        # Nothing more is read: after the answers that are due the connection closes, or it does.
        self._ignoring = self._lingering = False
        self._ignored = 0
        self._full, self._gone, self._held = None, False, b""
        super().connection_made(self._lingering_transport())
        self.flow = Flow(self)
        self._until: float | None = self.loop.time() + self.limits.header_seconds
        self._late = False
        self._watch = self.loop.call_later(self.limits.header_seconds, self._check)
        if self.ending:
            self.shutdown()
        if len(self.connections) > self.limits.max_connections:
            # Its request may be on its way; but not that of any number of connections.
            self._partial = len(self.connections) <= 2 * self.limits.max_connections
            detail = "too many connections are open; try again."
            self._refuse(Problem(503, "connections", detail, {"Retry-After": "1"}))

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._watch.cancel()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ignoring or self._is_closing():
            self._ignored += len(data)
            if self._ignored > LINGER_BYTES:
                self._reset()
            return
        # A head that began behind another message is counted from the next time on.
        counts, self._begun = self._in_head or not self._partial, 0
        super().data_received(data)
        if self._in_head and counts and self._begun <= 1:
            self._head_bytes += len(data)
            self._require_small_head(self._head_bytes)

    def on_message_begin(self) -> None:
        self._in_head = self._partial = True
        self._head_bytes, self._begun = 0, self._begun + 1
        self._until = self.loop.time() + self.limits.header_seconds
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        # An exception stops the parser in the middle of what it was fed.
        if not self._require_small_head(len(self.url) + sum(map(_size, self.headers))):
            raise ValueError("refused")
        if self.parser.should_upgrade() and any(map(_announces_body, self.headers)):
            raise ValueError("the parser would take its body for the next request")
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests wait")
        self._in_head, self._until = False, None
        super().on_headers_complete()
        if self.ending:
            self.cycle.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # and not behind a body in chunks, where there is no end of them
            super().on_header(name, value)

    def on_message_complete(self) -> None:
        self._partial = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._flush()  # an answer without a body
        super().on_response_complete()
        if self._is_closing():
            return
        if self._is_idle() and not self._in_head:
            # Either the rest of a body that nobody reads, or the next request.
            limits = self.limits
            rest = limits.body_seconds if self._partial else limits.keep_alive_seconds
            self._until = self.loop.time() + rest

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._full is None:
            self._full = self.loop.call_later(self.limits.body_seconds, self._reset)

    def resume_writing(self) -> None:
        if self._full:
            self._full.cancel()
            self._full = None
        super().resume_writing()

    def shutdown(self) -> None:
        """As the server ends: what has arrived is answered, and the connection is closed."""
        type(self).ending = True
        if self._is_idle():
            self.loop.call_later(LAST_CALL_SECONDS, self._last_call)
        else:
            super().shutdown()

    def _last_call(self) -> None:
        if self._is_idle():
            self._socket.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _require_small_head(self, size: int) -> bool:
        if size <= self.limits.max_header_bytes:
            return True
        detail = f"the head is larger than {self.limits.max_header_bytes} bytes."
        self._refuse(Problem(431, "header_size", detail))
        return False

    def _check(self) -> None:
        """Close a connection whose time is up; one look for each ``header_seconds`` or sooner.

        After a pause of the whole process what has arrived in time is not read yet: one more look.
        """
        now = self.loop.time()
        if self._until is None and self._socket.is_closing():
            self._until = now + self.limits.body_seconds  # to take its last answers
        if self._in_head and self.flow.read_paused:
            self._until = now + self.limits.header_seconds  # it is us who do not read the rest
        rest = self.limits.header_seconds if self._until is None else self._until - now
        late, self._late = self._late, rest <= 0
        if rest <= 0 and late:
            self._time_is_up()
            self._until = now + self.limits.body_seconds
        self._watch = self.loop.call_later(max(rest, 0.01), self._check)

    def _time_is_up(self) -> None:
        if self._is_closing():
            self._reset()
        elif self._in_head:
            detail = f"the head took longer than {self.limits.header_seconds:g} seconds."
            self._refuse(Problem(408, "header_time", detail))
        else:
            self._socket.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, "malformed", "this is no HTTP/1.1 request."))

    def _refuse(self, problem: Problem) -> None:
        """Answer outside of any request, and close."""
        if self._ignoring or self._is_closing():
            return
        if self.pipeline or (self._in_head and not self._is_idle()):
            # Earlier requests are at work: they are answered, then the connection closes.
            self._ignoring = True
            self.flow.pause_reading()
            self.cycle.keep_alive = False
            return
        self._flush()
        answered = self.cycle is not None and self.cycle.response_started
        if self._in_head or not answered:
            self._socket.write(_answer(problem))
        if not self._in_head and self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._close()

    def _lingering_transport(self) -> SimpleNamespace:
        """The transport as uvicorn sees it; writing and closing differ."""
        socket = self._socket
        return SimpleNamespace(
            write=self._write,
            close=self._close,
            is_closing=self._is_closing,
            get_extra_info=socket.get_extra_info,
            pause_reading=socket.pause_reading,
            resume_reading=socket.resume_reading,
        )

    def _write(self, data: bytes) -> None:
        """Send the head of an answer together with what follows it.

        A packet and a system call less for each answer are a tenth of what it costs.
        """
        if data.startswith(HEAD) and not data.startswith(CONTINUE):
            self._held += data
        else:
            held, self._held = self._held, b""
            self._socket.write(held + data)

    def _flush(self) -> None:
        if self._held:
            self._write(b"")

    def _is_closing(self) -> bool:
        return self._lingering or self._socket.is_closing()

    def _close(self) -> None:
        """Close; who is still sending may read the last answer before.

        Data that was not read would make the system reset the connection, answer and all.
        """
        self._flush()
        if self._is_closing():
            return
        if not self._partial:
            self._socket.close()
            return
        self._ignoring, self._lingering = False, True
        self.flow.resume_reading()
        self._socket.write_eof()
        self.loop.call_later(LINGER_SECONDS, self._reset)

    def _reset(self) -> None:
        """Close at once, and free what the system holds for a client that reads nothing."""
        if not self._gone:
            self._socket.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, AT_ONCE)
            self._socket.abort()


def _answer(problem: Problem) -> bytes:
    body = problem.body("", "")
    head = [f"HTTP/1.1 {problem.status} {problem.title}", f"content-type: {CONTENT_TYPE}"]
    head += [f"content-length: {len(body)}", "connection: close"]
    head += [f"{name.lower()}: {value}" for name, value in problem.headers.items()]
    return "\r\n".join([*head, "\r\n"]).encode() + body


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1])


def _announces_body(header: tuple[bytes, bytes]) -> bool:
    name, value = header
    return name == b"transfer-encoding" or (name == b"content-length" and bool(value.strip(b"0")))
