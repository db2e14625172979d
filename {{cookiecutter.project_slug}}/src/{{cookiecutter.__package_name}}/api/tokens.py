"""JSON Web Tokens of an OpenID provider, verified with the keys it publishes.

A token is accepted if a key of the provider's JWKS has signed it with that key's algorithm, and its
issuer, audience and dates are right. Threads fetch the keys, never the event loop: every
REFRESH_SECONDS, and when a token names an unknown key. While the provider is down, the known keys
stay in use. auth.py imports this module only if tokens are configured.
"""

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from urllib.parse import urlsplit

import jwt

from .. import settings
from ..errors import ProjectError, brief
from .problems import Problem, unauthenticated

# Asymmetric ones only: whoever can verify a token must not be able to make one.
ALGORITHMS = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"}
CLAIMS = ("exp", "iss", "aud", "sub")
# How far our clock and the provider's may be apart.
LEEWAY_SECONDS = 30
# Fetching the keys: the time limit, the interval, and the shortest interval for unknown keys.
FETCH_SECONDS, REFRESH_SECONDS, AGAIN_SECONDS = 5, 600, 10
REMEMBERED = 1_024
# OpenID's own limit for `sub`. The client's name is logged, so it must be printable.
LONGEST_SUBJECT = 255
SENTENCES = {
    jwt.ExpiredSignatureError: "The token has expired.",
    jwt.ImmatureSignatureError: "The token is not valid yet.",
    jwt.InvalidAudienceError: "The token is meant for another audience.",
    jwt.InvalidIssuerError: "The token comes from another issuer.",
}
log = logging.getLogger(__name__)


class Tokens:
    """Verifies tokens."""

    def __init__(self, config: settings.Authentication) -> None:
        self.issuer, self.audience = config.issuer, config.audience
        self.host = urlsplit(config.jwks).hostname
        self.provider = jwt.PyJWKClient(
            config.jwks,
            headers={"User-Agent": settings.PACKAGE},  # some providers refuse Python's own
            timeout=FETCH_SECONDS,
        )
        self.known: list[jwt.PyJWK] = []
        # SHA-256 of a token: its client, and the time (s since 1970) until which it is valid.
        self.verified: dict[bytes, tuple[str, float]] = {}
        self._due = self._again = 0.0
        self._failing, self._threads = False, ThreadPoolExecutor(2, "tokens")

    def load(self) -> None:
        """Fetch the keys now, blocking.

        :raises ProjectError: they cannot be fetched; the known ones stay in use.
        """
        self._due = time.monotonic() + REFRESH_SECONDS
        try:
            found = self.provider.get_signing_keys(refresh=True)
            usable = [key for key in found if key.algorithm_name in ALGORITHMS]
            if not usable:
                raise ValueError("it has none that only its issuer can sign with")
            self.known = usable
        except (jwt.PyJWTError, OSError, ValueError, RecursionError) as error:
            # Without the path and parameters of a URL, which may hold a secret.
            told = f"the keys of the tokens' issuer ({self.host}) cannot be read: {brief(error)}."
            raise ProjectError(told) from None
        # A token must not outlive the key that signed it.
        self.verified = {}

    def refresh(self) -> None:
        """Fetch the keys in the background if it is time."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + REFRESH_SECONDS
            threading.Thread(target=self._load, daemon=True).start()

    def _load(self) -> None:
        try:
            self.load()
            self._failing = False
        except ProjectError as error:
            if not self._failing:
                log.warning("%s The keys known so far stay in use.", error)
            self._failing = True

    async def client(self, token: bytes) -> str:
        """``token:`` and the token's subject.

        :raises Problem: 401, with a reason that reveals nothing secret.
        """
        digest = sha256(token).digest()
        client, until = self.verified.get(digest, ("", 0.0))
        if client and time.time() < until:
            return client
        remembered = self.verified
        loop = asyncio.get_running_loop()
        client, until = await loop.run_in_executor(self._threads, self._verify, token)
        remembered[digest] = client, until
        if len(remembered) > REMEMBERED:
            del remembered[next(iter(remembered))]
        return client

    def _verify(self, token: bytes) -> tuple[str, float]:
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                sorted(ALGORITHMS & {key.algorithm_name}),
                options={"require": CLAIMS, "enforce_minimum_key_length": True},
                audience=self.audience,
                issuer=self.issuer,
                leeway=LEEWAY_SECONDS,
            )
            subject, until = claims["sub"], int(claims["exp"]) + LEEWAY_SECONDS
        except Problem:
            raise
        except Exception as error:
            # Any error of a library on unverified bytes is a refusal, not an internal error.
            raise unauthenticated(sentence(error)) from None
        plain = subject.isascii() and subject.isprintable()
        if not (plain and 0 < len(subject) <= LONGEST_SUBJECT):
            raise unauthenticated("The token's subject must be 1 to 255 printable characters.")
        return f"token:{subject}", until

    def _key(self, kid: str | None) -> jwt.PyJWK:
        """The provider's key by its id; fetches the keys for an unknown id, but not too often."""
        key = self.provider.match_kid(self.known, kid) if kid else None
        if not key and kid and time.monotonic() >= self._again:
            self._again = time.monotonic() + AGAIN_SECONDS
            self._load()
            key = self.provider.match_kid(self.known, kid)
        if not key:
            raise unauthenticated("The token is not signed with a key of its issuer.")
        return key


def sentence(error: Exception) -> str:
    """Why a token is refused. Claims are checked only after the signature is verified."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"The token lacks the claim {error.claim}."
    return SENTENCES.get(type(error), "The token is not valid.")
