"""What every request passes first and last: limits, authentication, metrics, log, problems.

The guard is the outermost ASGI application. It hands a request to the FastAPI application of app.py
or, where a route there is a plain function of a ``Call``, directly to that function: FastAPI's own
handling of a request costs more than a prediction does.
"""

import asyncio
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from ..settings import Api
from .auth import Authenticator
from .json_logs import JsonLines
from .metrics import Metrics
from .problems import CONTENT_TYPE, Problem

log = logging.getLogger(__name__)
# Answered for anybody, whatever the load: those who watch over the service ask them.
OPEN = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping")
# Answered under overload too, which it shows; but only to those who may ask.
METRICS = "/metrics"
MOST_CLIENTS = 10_000
SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
LONGEST_ID = 64
INTERNAL = Problem(500, "internal", "this failed here, not at your side; the log has more.")
ENDING = Problem(503, "ending", "the service is ending; try again.", {"Retry-After": "1"})
CLOSE = {"Connection": "close"}
SECURITY = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Disconnected(Exception):  # noqa: N818 - not an error of ours
    """The client went away before its request was whole."""


class Call:
    """One request and its answer."""

    __slots__ = (
        *("client", "code", "guard", "receive", "request_id", "scope", "send", "served", "status"),
    )

    def __init__(self, guard: "Guard", scope: dict, receive: Callable, send: Callable) -> None:
        self.guard, self.scope, self.receive, self.send = guard, scope, receive, send
        self.client = self.code = ""
        self.status, self.served = 0, None
        self.request_id = guard.request_id(self.header(b"x-request-id"))

    def header(self, name: bytes) -> bytes:
        """The first header of this name, in lower case; empty if there is none."""
        for key, value in self.scope["headers"]:
            if key == name:
                return value
        return b""

    async def body(self) -> bytes:
        """The whole body, within the limits of size and time.

        :raises Problem: 413 too large, 408 too slow.
        """
        guard, seconds = self.guard, self.guard.limits.body_seconds
        whole = bytearray()
        # Whoever sends slowly takes up a connection, but no place among those at work.
        guard.aside += 1
        try:
            async with asyncio.timeout(seconds):
                message: dict = {"more_body": True}
                while message.get("more_body"):
                    message = await self.receive()
                    part = message.get("body", b"")
                    whole += part
                    guard.require_space(len(part), len(whole))
        except TimeoutError:
            detail = f"the body took longer than {seconds:g} seconds."
            raise Problem(408, "body_time", detail, CLOSE) from None
        finally:
            guard.aside -= 1
            guard.held -= len(whole)
        if message["type"] == "http.disconnect":
            raise Disconnected
        guard.require_room()
        return bytes(whole)

    async def answer(self, body: bytes) -> None:
        """Answer with 200 and JSON."""
        await self._answer(200, body, "application/json", {})

    async def refuse(self, problem: Problem) -> None:
        body = self.problem_body(problem)
        await self._answer(problem.status, body, CONTENT_TYPE, problem.headers)

    def problem_body(self, problem: Problem) -> bytes:
        """The body of an answer that tells a problem, which is counted."""
        self.code, path = problem.code, self.scope["path"]
        self.guard.metrics.violated(problem.columns)
        # Where that protocol's clients look.
        more = {"error": problem.detail} if path.startswith("/v2") else {}
        return problem.body(path, self.request_id, **more)

    async def _answer(self, status: int, body: bytes, kind: str, more: dict[str, str]) -> None:
        self.status = status
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.request_id.encode()),
        ]
        headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class Guard:
    """The outermost ASGI application of a worker.

    :param app: the FastAPI application.
    :param direct: functions of a ``Call`` by the path that they answer POST requests to.
    :param lines: the log of requests, if there is one.
    :param open_paths: answered for anybody, besides OPEN.
    """

    def __init__(
        self,
        app: Callable,
        direct: dict[str, Callable[[Call], Awaitable[None]]],
        limits: Api,
        authenticator: Authenticator,
        metrics: Metrics,
        lines: JsonLines | None,
        open_paths: tuple[str, ...],
    ) -> None:
        self.app, self.direct, self.limits = app, direct, limits
        self.authenticator, self.metrics, self.lines = authenticator, metrics, lines
        self.open = frozenset((*OPEN, *open_paths))
        self.rate = Rate(limits.requests_per_second / (limits.workers or 1))
        # Requests that take no place among those at work, and the bytes of unfinished bodies.
        self.aside = self.held = 0
        self._prefix, self._count = secrets.token_hex(6), 0

    def request_id(self, given: bytes) -> str:
        """The client's own id if it is harmless to log, else a new one."""
        if given and len(given) <= LONGEST_ID and SAFE.issuperset(text := given.decode("latin-1")):
            return text
        self._count += 1
        return f"{self._prefix}-{self._count:08x}"

    def too_large(self) -> Problem:
        detail = f"the body is larger than {self.limits.max_body_bytes} bytes."
        return Problem(413, "body_size", detail, CLOSE)

    def require_space(self, more: int, whole: int) -> None:
        """Count bytes of a body that is not whole yet.

        :raises Problem: 413 that body is too large, 503 all of them together are.
        """
        self.held += more
        if whole > self.limits.max_body_bytes:
            raise self.too_large()
        if self.held > self.limits.max_body_bytes * self.limits.max_in_flight:
            detail = "too many bodies are being sent; try again."
            raise Problem(503, "overload", detail, {"Retry-After": "1"} | CLOSE)

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        call = Call(self, scope, receive, send)
        path = scope["path"]
        aside = path in self.open or path == METRICS
        self.aside += aside
        self.metrics.entered()
        try:
            if path not in self.open:
                if not aside:
                    self._admit(call)
                call.client = await self.authenticator.identify(scope["headers"])
                if not aside:  # who watches must see most when there is most to do
                    self.rate.take(call.client or str((scope["client"] or ("",))[0]))
            if answer := self.direct.get(path):
                if scope["method"] != "POST":
                    raise Problem(405, "method", f"{path} takes POST.", {"Allow": "POST"})
                await answer(call)
            else:
                await self._through_app(call)
        except Problem as problem:
            await call.refuse(problem)
        except Disconnected:
            call.code, call.status = "disconnected", 0
        except asyncio.CancelledError:
            if not call.status:
                await call.refuse(ENDING)
            raise
        except Exception as error:
            log.exception("Request %s failed.", call.request_id, exc_info=error)
            if not call.status:
                await call.refuse(INTERNAL)
        finally:
            self.aside -= aside
            self.metrics.left()
            self._record(call, path, time.perf_counter() - began)

    def _admit(self, call: Call) -> None:
        """:raises Problem: 503, 413, 415."""
        self.require_room()
        length = call.header(b"content-length").lstrip(b"0")
        if length.isdigit() and (len(length) > 12 or int(length) > self.limits.max_body_bytes):
            raise self.too_large()
        if call.header(b"content-encoding") not in (b"", b"identity"):
            raise Problem(415, "encoding", "send the body as it is, without Content-Encoding.")

    def require_room(self) -> None:
        """:raises Problem: 503 at once, rather than to answer everybody late."""
        if self.metrics.in_flight - self.aside > self.limits.max_in_flight:
            detail = "too many requests are at work; try again."
            raise Problem(503, "overload", detail, {"Retry-After": "1"})

    async def _through_app(self, call: Call) -> None:
        """Let FastAPI answer; add what every answer has, and read off its status."""
        send = call.send

        async def watched(message: dict) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                given = {name for name, _ in message["headers"]}
                more = [header for header in SECURITY if header[0] not in given]
                identity = (b"x-request-id", call.request_id.encode())
                message["headers"] = [*message["headers"], *more, identity]
            await send(message)

        call.scope["call"] = call
        await self.app(call.scope, call.receive, watched)

    def _record(self, call: Call, path: str, seconds: float) -> None:
        status = call.status or 499  # as nginx has it: the client closed the connection
        route = path
        if path not in self.direct:
            route = getattr(call.scope.get("route"), "path", "other")
        self.metrics.answered(route, status, call.code, call.served, seconds)
        if self.lines:
            self.lines.request(call, call.scope["method"], path[:200], status, seconds)


class Rate:
    """At most so many requests a second for each client: a bucket that holds a second's worth.

    The least recent of more than MOST_CLIENTS clients are forgotten.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second, self.most = per_second, max(1.0, per_second)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """:raises Problem: 429, with when to try again."""
        if not self.per_second:
            return
        now = time.monotonic()
        left, then = self._buckets.pop(client, (self.most, now))
        left = min(self.most, left + (now - then) * self.per_second)
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if left < 1:
            wait = max(1, math.ceil((1 - left) / self.per_second))
            detail = f"more than {self.per_second:g} requests a second; wait {wait} s."
            raise Problem(429, "rate", detail, {"Retry-After": str(wait)})
