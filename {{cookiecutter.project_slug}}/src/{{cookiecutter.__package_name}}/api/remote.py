"""An API behind a URL: asked over one kept-alive connection, and asked again where that may help.

Only the standard library speaks HTTP here; https checks certificates as the system does.
"""

import http.client
import json
import logging
import random
import socket
import ssl
import time
from contextlib import suppress
from threading import Timer
from urllib.parse import quote, urlsplit

from ..errors import ProjectError, brief

log = logging.getLogger(__name__)
# Answers that another try may better; the pauses between tries, in seconds.
PASSING = {408, 429, 502, 503, 504}
FIRST_PAUSE, LONGEST_PAUSE, LONGEST_RETRY_AFTER = 0.2, 10.0, 30.0
# No try of a request begins later than this after its first one.
REQUEST_SECONDS = 300.0
ANSWER_BYTES = 64_000_000
TEXT_CHARACTERS = 300


class Api:
    """The API behind a URL, over a connection that is opened again when it was closed."""

    def __init__(self, url: str, key: str, timeout: float, retries: int) -> None:
        self.timeout, self.retries = timeout, retries
        self.scheme, host, port, path = _parts(url)
        if self.scheme == "https":
            self.connection = http.client.HTTPSConnection(host, port, timeout=timeout)
        else:
            self.connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self.path = f"{path}/predict?detail=true"
        self.headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            self.headers["X-API-Key"] = key

    def __str__(self) -> str:
        host = self.connection.host
        shown = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{shown}:{self.connection.port}{self.path.partition('?')[0]}"

    def close(self) -> None:
        self.connection.close()

    def ask(self, body: bytes) -> tuple[int, dict]:
        """Status and content of the answer; what may pass by itself is tried again.

        :raises ProjectError: no answer in all the tries, or one that is not the API's.
        """
        until = time.monotonic() + REQUEST_SECONDS
        for attempt in range(self.retries + 1):
            retry_after = 0.0
            try:
                status, headers, content = self._try(body)
            except ssl.SSLCertVerificationError as error:
                raise ProjectError(f"{self}: {brief(error)}.") from None
            except (OSError, http.client.HTTPException) as error:
                trouble = brief(error)
            else:
                answer = _object(content)
                if status not in PASSING:
                    if status == 200 and answer is None:
                        raise ProjectError(f"{self} answered with no JSON: is it the API?")
                    return status, answer or {}
                trouble = told(status, answer or {})
                retry_after = _seconds(headers.get("Retry-After"))
            # Full jitter, so that clients that were refused together do not come back together.
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
            pause = retry_after + random.uniform(0, longest)  # noqa: S311 - no secret
            if attempt == self.retries or time.monotonic() + pause > until:
                break
            log.info("%s: %s; again in %.1f s", self, trouble, pause)
            time.sleep(pause)
        raise ProjectError(f"{self} cannot answer, tried {attempt + 1} times: {trouble}.")

    def _try(self, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send once; the connection survives a whole answer only."""
        started = time.monotonic()
        # A socket's own timeout starts anew with every byte; this one is for all of them.
        watch = Timer(self.timeout, self._cut)
        watch.daemon = True
        watch.start()
        try:
            # A server that refuses the size may answer and hang up before it was sent it all.
            with suppress(BrokenPipeError, ConnectionResetError):
                self.connection.request("POST", self.path, body, self.headers)
            response = self.connection.getresponse()
            content = response.read(ANSWER_BYTES)
            if response.length or len(content) == ANSWER_BYTES:
                raise http.client.IncompleteRead(content)
            return response.status, response.headers, content
        except BaseException as error:
            self.close()
            late = time.monotonic() - started >= self.timeout
            if late and isinstance(error, (OSError, http.client.HTTPException)):
                raise TimeoutError(f"no answer within {self.timeout:g} s") from None
            raise
        finally:
            watch.cancel()

    def _cut(self) -> None:
        with suppress(OSError, AttributeError):  # closed meanwhile
            socket.socket.shutdown(self.connection.sock, socket.SHUT_RDWR)


def _parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of a URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ProjectError(f"{url} is no URL such as http://127.0.0.1:8000.")
    if parts.username or parts.password:
        raise ProjectError("a URL shows in the list of processes: no user and password in it.")
    port = port or http.client.HTTPS_PORT if parts.scheme == "https" else port or 80
    return parts.scheme, host, port, quote(parts.path.rstrip("/"), safe="/%")


def _object(content: bytes) -> dict | None:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def told(status: int, answer: dict) -> str:
    """A status, and what the API says about it."""
    detail = str(answer.get("detail") or answer.get("title") or "").rstrip(".")
    return printable(f"{status}: {detail}" if detail else str(status))


def _seconds(retry_after: str | None) -> float:
    """A Retry-After in seconds, as far as we wait; a date in it is not ours to compare."""
    given = (retry_after or "").strip()
    known = given.isascii() and given.isdigit() and len(given) < 10
    return min(float(given), LONGEST_RETRY_AFTER) if known else 0.0


def printable(text: str) -> str:
    """For a terminal, where control characters of others must not act."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown if len(shown) <= TEXT_CHARACTERS else f"{shown[:TEXT_CHARACTERS]}…"
