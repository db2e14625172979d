"""JSON over HTTP with a token: limited in time and size, without following redirects."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from time import sleep
from typing import Any

from {{ cookiecutter.__package_name }}.errors import ProjectError

SECONDS, TRIES, MOST_BYTES = 30, 4, 10_000_000
# The longest wait for a server's Retry-After, in seconds.
LONGEST_WAIT = 30
# Statuses that are retried. After a gateway's error a POST is not: it may have been carried out.
BUSY, BUSY_UNLESS_POST = {429, 503}, {429, 500, 502, 503, 504}
MEANS = {
    401: "the token is not valid",
    403: "the token may not do that, or the provider's plan does not have it",
    404: "there is no such thing, or the token may not see it",
}


class RefusedError(ProjectError):
    """The server answered with an error, ``status``; 0 means that there was no usable answer."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: the token must not be sent to another server."""

    def redirect_request(self, *_):
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def basic(user: str, token: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


def quoted(text: str) -> str:
    """Escape a text as one part of a path or a query."""
    return urllib.parse.quote(text, safe="")


def ask(method: str, url: str, headers: dict[str, str], body: Any = None) -> Any:
    """The answer to a request, None if it is empty; a busy server is asked up to TRIES times.

    :raises RefusedError: an error, with the server's message, or no usable answer.
    """
    if not url.startswith(("http://", "https://")):
        raise ProjectError(f"{url}: an address begins with https://.")
    content = None if body is None else json.dumps(body).encode()
    sent = {"Accept": "application/json", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, content, sent, method=method)  # noqa: S310, see above
    for attempt in range(1, TRIES + 1):
        try:
            with _OPENER.open(request, timeout=SECONDS) as answer:
                return _parsed(answer.read(MOST_BYTES), method, url)
        except urllib.error.HTTPError as error:
            again = BUSY if method == "POST" else BUSY_UNLESS_POST
            if error.code not in again or attempt == TRIES:
                raise _refusal(error, method, url) from None
            sleep(_wait(error.headers.get("Retry-After"), attempt))
        except OSError as error:
            if attempt == TRIES or method == "POST":
                raise RefusedError(f"{method} {url}: {error}.", 0) from None
            sleep(_wait(None, attempt))


def _parsed(content: bytes, method: str, url: str) -> Any:
    if not content.strip():
        return None
    try:
        return json.loads(content)
    except ValueError:
        raise RefusedError(f"{method} {url}: the answer is no JSON; is that the API?", 0) from None


def _wait(asked_for: str | None, attempt: int) -> float:
    seconds = float(asked_for) if asked_for and asked_for.isdigit() else 0.5 * 2**attempt
    return min(seconds, LONGEST_WAIT)


def _refusal(error: urllib.error.HTTPError, method: str, url: str) -> RefusedError:
    where = f"{method} {url.partition('?')[0]}"
    if 300 <= error.code < 400:
        target = error.headers.get("Location", "elsewhere")
        return RefusedError(f"{where} is redirected to {target}: name that address.", error.code)
    told = " ".join(error.read(2000).decode(errors="replace").split())[:300]
    meaning = MEANS.get(error.code)
    text = f"HTTP {error.code}" + (f", {meaning}" if meaning else "")
    return RefusedError(f"{where}: {text}. {told}".strip(), error.code)
