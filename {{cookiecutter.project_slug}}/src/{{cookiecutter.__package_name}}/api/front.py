"""What every request goes through: limits, authentication, metrics and the log.

``Front`` is the outermost ASGI application. It answers /predict and /invocations itself, because
FastAPI's handling of a request costs more than a prediction. FastAPI answers everything else.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ..settings import Api
from .auth import Authenticator
from .logs import JsonLines
from .metrics import Metrics
from .problems import CONTENT_TYPE, Problem
from .routes import ASSETS, DESCRIPTION, HEALTH, INFER, METRICS

log = logging.getLogger(__name__)
OPEN = frozenset((*HEALTH, *DESCRIPTION))
SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
LONGEST_ID = 64
# Bytes of a too large body that are read and dropped, so that its client reads the answer.
MOST_DROPPED = 64 << 20
BROKEN_OFF = Problem(400, "malformed", "the body ended before it was whole.")
INTERNAL = Problem(500, "internal", "this failed here, not at your side; the log has more.")
AGAIN = {"Retry-After": "1"}
ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Disconnected(Exception):  # noqa: N818 - not an error of ours
    """The client disconnected before its request was complete."""


class Call:
    """One request, and what is known about it and its answer."""

    __slots__ = (
        *("client", "code", "headers", "late", "limits", "receive", "request_id"),
        *("scope", "served", "status", "whole"),
    )

    def __init__(self, scope: dict, receive: Callable, limits: Api) -> None:
        self.scope, self.receive, self.limits = scope, receive, limits
        self.request_id = self.client = self.code = ""
        self.status, self.served, self.late, self.whole = 0, None, False, False
        # By name in lower case.
        self.headers: dict[bytes, bytes] = dict(scope["headers"])

    async def body(self) -> bytes:
        """The whole body, within the limits of size and time.

        :raises Problem: 408 too slow, 413 too large, 415 compressed.
        """
        if self.headers.get(b"content-encoding", b"") not in (b"", b"identity"):
            raise Problem(415, "encoding", "send the body as it is, without Content-Encoding.")
        most = self.limits.max_body_bytes
        body, size = await self._read_in_time(most)
        if size > most:
            raise Problem(413, "body_size", f"the body is larger than {most} bytes.")
        return body

    async def _read_in_time(self, most: int) -> tuple[bytes, int]:
        """As ``_read``, with a time limit; asyncio.timeout costs several times as much."""
        task = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(self.limits.body_seconds, self._end, task)
        try:
            return await self._read(most)
        except asyncio.CancelledError:
            if not self.late:
                raise
            task.uncancel()
            self.whole = True  # nobody waits for the rest
            detail = f"the body took longer than {self.limits.body_seconds:g} seconds."
            raise Problem(408, "body_time", detail) from None
        finally:
            timer.cancel()

    def _end(self, reading: asyncio.Task) -> None:
        self.late = True
        reading.cancel()

    async def _read(self, most: int) -> tuple[bytes, int]:
        """The body, empty if it is too large, and its size."""
        body, size, message = bytearray(), 0, {"more_body": True}
        while message.get("more_body") and size <= max(most, MOST_DROPPED):
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part = message.get("body", b"")
            size += len(part)
            if size <= most:
                body += part
            else:
                body.clear()
        self.whole = True
        return bytes(body), size

    async def drain(self) -> None:
        """Read and drop the rest of the body: a client may not read the answer before that."""
        if not self.whole:
            with suppress(Problem, Disconnected):
                await self._read_in_time(0)


class Front:
    """The outermost ASGI application of a worker.

    :param app: the FastAPI application.
    :param direct: by path, the function that makes the JSON answer to a POST request.
    :param lines: the log of requests, if there is one.
    """

    def __init__(
        self,
        app: Callable,
        direct: dict[str, Callable[[Call], Awaitable[bytes]]],
        limits: Api,
        authenticator: Authenticator,
        metrics: Metrics,
        lines: JsonLines | None,
    ) -> None:
        self.app, self.direct, self.limits = app, direct, limits
        self.authenticator, self.metrics, self.lines = authenticator, metrics, lines
        self._prefix, self._count = secrets.token_hex(6), 0

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, call = time.perf_counter(), Call(scope, receive, self.limits)
        call.request_id = self._identity(call.headers.get(b"x-request-id"))
        closed = not _is_open(scope["path"])
        limited = closed and scope["path"] != METRICS
        if limited:
            self.metrics.entered()
        try:
            if limited and self.metrics.in_flight > self.limits.max_in_flight:
                # Refused at once, rather than all requests being answered late.
                raise Problem(503, "overload", "too many requests are at work; try again.", AGAIN)
            if closed:
                call.client = await self.authenticator.identify(scope["headers"])
            await self._answer(call, send)
        except Problem as problem:
            if limited:
                self.metrics.left()  # before the drain, so that refused clients do not block others
                limited = False
            await call.drain()
            await self._refuse(call, problem, send)
        except Disconnected:  # or it sent invalid HTTP
            await self._refuse(call, BROKEN_OFF, send)
        except Exception as error:
            log.exception("Request %s failed.", call.request_id, exc_info=error)
            if not call.status:
                await self._refuse(call, INTERNAL, send)
        finally:
            if limited:
                self.metrics.left()
            self._record(call, time.perf_counter() - began)

    def _identity(self, given: bytes | None) -> str:
        """The client's own request id if it is safe to log, else a new one."""
        if given and len(given) <= LONGEST_ID and SAFE.issuperset(text := given.decode("latin-1")):
            return text
        self._count += 1
        return f"{self._prefix}-{self._count:08x}"

    async def _answer(self, call: Call, send: Callable) -> None:
        if call.scope["method"] == "HEAD":
            call.scope["method"] = "GET"  # the server leaves out the body
        answer = self.direct.get(call.scope["path"]) if call.scope["method"] == "POST" else None
        if answer:
            await _send(call, 200, await answer(call), "application/json", {}, send)
            return

        async def watched(message: dict) -> None:
            if message["type"] == "http.response.start":
                await call.drain()
                call.status = message["status"]
                given = {name for name, _ in message["headers"]}
                more = [header for header in ALWAYS if header[0] not in given]
                identity = (b"x-request-id", call.request_id.encode())
                message["headers"] = [*message["headers"], *more, identity]
            await send(message)

        call.scope["call"] = call
        try:
            await self.app(call.scope, call.receive, watched)
        finally:
            del call.scope["call"]  # avoids a reference cycle

    async def _refuse(self, call: Call, problem: Problem, send: Callable) -> None:
        body = self.problem_body(call, problem)
        await _send(call, problem.status, body, CONTENT_TYPE, problem.headers, send)

    def problem_body(self, call: Call, problem: Problem) -> bytes:
        """The body of an answer that reports a problem; counts its violations."""
        call.code, path = problem.code, call.scope["path"]
        self.metrics.violated(problem.columns)
        # Clients of the Open Inference Protocol read this member.
        more = {"error": problem.detail} if path.startswith("/v2") else {}
        return problem.body(path, call.request_id, **more)

    def _record(self, call: Call, seconds: float) -> None:
        status = call.status or 499  # as in nginx: the client closed the connection
        path = call.scope["path"]
        route = path if path in self.direct else _route(call.scope)
        self.metrics.answered(route, status, call.code, call.served, seconds)
        if self.lines:
            self.lines.request(call, call.scope["method"], path[:200], status, seconds)


def _route(scope: dict) -> str:
    """The route of a request, also if it was refused before it was routed."""
    path = scope["path"]
    if path.startswith("/v2/models/") and path.endswith("/infer"):
        return INFER
    return getattr(scope.get("route"), "path", "other")


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(ASSETS)


async def _send(call, status: int, body: bytes, kind: str, more: dict, send: Callable) -> None:
    call.status = status
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", call.request_id.encode()),
        *ALWAYS,
        *((name.lower().encode(), value.encode()) for name, value in more.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
