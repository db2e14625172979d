"""JSON Web Tokens of an OAuth 2.0 or OpenID provider, verified with the keys it publishes.

A token is believed when a key of the provider's JWKS has signed it with an algorithm allowed for
that key, and its issuer, audience and dates are right. Threads fetch the keys, never the event
loop: one at a time, every REFRESH_SECONDS, and when a token names an unknown key. While the
provider is down, the keys known so far stay in use. auth.py imports this where tokens are set up.
"""

import asyncio
import json
import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from hashlib import sha256
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

import jwt

from .. import settings
from ..errors import ProjectError, brief
from .problems import Problem, unauthenticated

# Asymmetric ones only: whoever can verify a token must not be able to make one.
RSA = frozenset(["RS256", "RS384", "RS512", "PS256"])
ALGORITHMS = RSA | {"ES256", "ES384", "EdDSA"}
CLAIMS = ("exp", "iss", "aud", "sub")
# How far our clock and the provider's may be apart.
LEEWAY_SECONDS = 30
# One fetch: the longest wait for the network and for the whole document, and its size.
FETCH_SECONDS, FETCH_BYTES = 5, 1_000_000
# Fetches: how often, how soon after a failed one, and how soon again for an unknown key.
REFRESH_SECONDS, RETRY_SECONDS, AGAIN_SECONDS = 600, 60, 10
# Requests that wait for a fetch; others with an unknown key are refused at once.
WAITING = 16
REMEMBERED = 1024
# OpenID's own bound on `sub`. The name of the client stands in logs, so it must be printable.
LONGEST_SUBJECT = 255
SENTENCES = {
    jwt.ExpiredSignatureError: "The token has expired.",
    jwt.ImmatureSignatureError: "The token is not valid yet.",
    jwt.InvalidAudienceError: "The token is meant for another audience.",
    jwt.InvalidIssuerError: "The token comes from another issuer.",
}
log = logging.getLogger(__name__)


class Known:
    """The provider's keys, and the tokens they have verified: replaced together.

    So a token does not outlive the key that signed it, not even in a race.
    """

    def __init__(self, keys: dict[str, tuple[Any, list[str]]]) -> None:
        self.keys = keys
        # SHA-256 of a token: client, and the time (s since 1970) until which it is valid.
        self.tokens: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def client(self, digest: bytes) -> str | None:
        """The client of a token that was verified before and has not expired since."""
        client, until = self.tokens.get(digest, (None, 0.0))
        if time.time() >= until:
            self.tokens.pop(digest, None)
            return None
        self.tokens.move_to_end(digest)
        return client

    def remember(self, digest: bytes, client: str, until: float) -> None:
        self.tokens[digest] = client, until
        if len(self.tokens) > REMEMBERED:
            self.tokens.popitem(last=False)


class Tokens:
    """Verifies tokens.

    :raises ProjectError: jwks is neither https, nor http on this machine, nor a file.
    """

    def __init__(self, config: settings.Authentication) -> None:
        self.issuer, self.audience = config.issuer, config.audience
        self.source = source(config.jwks)
        self.known, self.document = Known({}), b""
        self.asked = self.due = float("-inf")
        self.failing, self.waiting = False, 0
        self.fetch: Future[None] = Future()
        self.fetch.set_result(None)

    async def client(self, token: bytes) -> str:
        """``token:`` and the token's subject; about 4 µs for a token that was verified before.

        :raises Problem: 401, with a reason that tells the token's holder nothing secret.
        """
        digest = sha256(token).digest()
        if client := self.known.client(digest):
            return client
        try:
            return await self._verified(token, digest)
        except Problem:
            raise
        except Exception as error:
            # Whatever a library makes of a stranger's bytes: it is a refusal, not our failure.
            raise unauthenticated(sentence(error)) from None

    async def _verified(self, token: bytes, digest: bytes) -> str:
        kid = jwt.get_unverified_header(token).get("kid")
        if kid not in self.known.keys and kid is not None:
            await self._newer()
        known = self.known
        if kid not in known.keys:
            raise unauthenticated("The token is not signed with a key of its issuer.")
        key, algorithms = known.keys[kid]
        claims = jwt.decode(
            token,
            key,
            algorithms,
            options={"require": CLAIMS, "enforce_minimum_key_length": True},
            audience=self.audience,
            issuer=self.issuer,
            leeway=LEEWAY_SECONDS,
        )
        subject = claims["sub"]
        plain = subject.isascii() and subject.isprintable()
        if not (plain and 0 < len(subject) <= LONGEST_SUBJECT):
            raise unauthenticated("The token's subject must be 1 to 255 printable characters.")
        client = f"token:{subject}"
        known.remember(digest, client, int(claims["exp"]) + LEEWAY_SECONDS)
        return client

    def refresh(self) -> None:
        """Start a fetch in the background if one is due."""
        if time.monotonic() >= self.due and self.fetch.done():
            self._start()

    async def _newer(self) -> None:
        """Wait for newer keys, unless they were asked for less than AGAIN_SECONDS ago.

        So neither many requests with invented keys nor a slow provider make us slow.
        """
        if self.fetch.done():
            if time.monotonic() - self.asked < AGAIN_SECONDS:
                return
            self._start()
        if self.waiting >= WAITING:
            return
        self.waiting += 1
        try:
            # Unlike wait_for, this does not cancel the fetch that others wait for too.
            await asyncio.wait([asyncio.wrap_future(self.fetch)], timeout=2 * FETCH_SECONDS)
        finally:
            self.waiting -= 1

    def _start(self) -> None:
        self.asked, fetch = time.monotonic(), Future()
        # A daemon, not the event loop's executor: it must not hold up the end of the process.
        threading.Thread(target=self._run, args=(fetch,), name="jwks", daemon=True).start()
        self.fetch = fetch

    def _run(self, fetch: Future) -> None:
        try:
            self.load()
            self.failing = False
        except ProjectError as error:
            if not self.failing:
                log.warning("%s The keys known so far stay in use.", error)
            self.failing = True
        finally:
            fetch.set_result(None)

    def load(self) -> None:
        """Fetch the keys now, blocking.

        :raises ProjectError: they cannot be read; the known ones stay.
        """
        self.asked = time.monotonic()
        self.due = self.asked + RETRY_SECONDS
        try:
            document = read(self.source)
            keys = public_keys(document)
        except (OSError, HTTPException, ValueError) as error:
            # Without the path and parameters of a URL, which may hold a secret.
            place = urlsplit(self.source).hostname or self.source
            problem = f"the keys of the tokens' issuer ({place}) cannot be read: {brief(error)}."
            raise ProjectError(problem) from None
        self.due = self.asked + REFRESH_SECONDS
        if document != self.document:
            self.known, self.document = Known(keys), document


def sentence(error: Exception) -> str:
    """Why a token is refused. Claims are looked at only after the signature was found right."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"The token lacks the claim {error.claim}."
    return SENTENCES.get(type(error), "The token is not valid.")


def source(jwks: str) -> str:
    """The URL or the absolute path of a JWKS.

    :raises ProjectError: somebody on the way could put in keys of his own.
    """
    place = settings.absolute(jwks, settings.root())
    with suppress(ValueError):
        if "://" not in place or urlsplit(place).scheme == "https" or _is_http_here(place):
            return place
    problem = "authentication.jwks must be an https URL, an http URL of this machine, or a file."
    raise ProjectError(problem)


def _is_http_here(url: str) -> bool:
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    try:
        return scheme == "http" and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False


class _NoRedirect(HTTPRedirectHandler):
    """The keys come from where the settings say, and from nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def read(place: str) -> bytes:
    """The document at a URL or path that ``source`` has let pass.

    :raises OSError: not there, not in time, or a status other than 200.
    :raises ValueError: longer than FETCH_BYTES.
    """
    if "://" not in place:
        with Path(place).open("rb") as file:
            return _bounded(file.read)
    # A proxy of the environment cannot reach this machine's own addresses.
    proxies = [ProxyHandler({})] if _is_http_here(place) else []
    opener = build_opener(_NoRedirect, *proxies)
    # Some providers refuse Python's own name.
    opener.addheaders = [("User-Agent", settings.PACKAGE), ("Accept", "application/json")]
    with opener.open(place, timeout=FETCH_SECONDS) as response:
        return _bounded(response.read1)


def _bounded(some) -> bytes:
    until, document = time.monotonic() + FETCH_SECONDS, b""
    while more := some(65_536):
        document += more
        if len(document) > FETCH_BYTES:
            raise ValueError(f"longer than {FETCH_BYTES} bytes")
        if time.monotonic() > until:
            raise TimeoutError(f"not read within {FETCH_SECONDS} s")
    return document


def public_keys(document: bytes) -> dict[str, tuple[Any, list[str]]]:
    """The keys that may have signed a token, by kid, each with the algorithms allowed for it.

    Keys for encryption, secret keys and other kinds are left out.

    :raises ValueError: the document is no JWKS, or no key is left.
    """
    try:
        entries = json.loads(document)["keys"]
        kept = [entry for entry in entries if entry.get("use", "sig") == "sig" and entry.get("kid")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Without the library's words, which may quote the document.
        raise ValueError("not a JSON Web Key Set") from None
    keys: dict[str, tuple[Any, list[str]]] = {}
    for entry in kept:
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
            continue
        # An RSA key without `alg` may sign with each of them; a curve has but one.
        fits = RSA if key.key_type == "RSA" and "alg" not in entry else {key.algorithm_name}
        if allowed := sorted(ALGORITHMS & fits):
            keys.setdefault(str(entry["kid"]), (key.key, allowed))
    if not keys:
        raise ValueError("no key in it can verify a token")
    return keys
