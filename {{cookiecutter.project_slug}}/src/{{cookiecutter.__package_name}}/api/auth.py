"""Authentication by an API key (keys.py) or by a token of an OpenID provider (tokens.py).

A client sends a key in ``X-API-Key`` or ``Authorization: Bearer``, a token only in the latter.
"""

import logging
import time
from hashlib import sha256
from pathlib import Path

from .. import settings
from ..errors import ProjectError
from . import keys
from .problems import unauthenticated

LONGEST_CREDENTIAL = 8_192
CREDENTIALS = frozenset([b"x-api-key", b"authorization"])
log = logging.getLogger(__name__)


class Authenticator:
    """Tells which client sent a request.

    :raises ProjectError: credentials are required, but there is neither a valid key nor a token
        provider; or the file of keys cannot be read.
    """

    def __init__(self, config: settings.Authentication) -> None:
        self.required, self.file = config.required, Path(config.keys)
        self.tokens = None
        if config.jwks:
            from . import tokens  # imported here, because it needs PyJWT and cryptography

            self.tokens = tokens.Tokens(config)
        # By the SHA-256 of a key: its name and expiry (seconds since 1970).
        self.keys: dict[bytes, tuple[str, float]] = {}
        self._stamp, self._failing = stamp(self.file), False
        self._take(keys.read(self.file))
        valid = any(end > time.time() for _, end in self.keys.values())
        if self.required and not valid and not self.tokens:
            raise ProjectError(
                f"authentication is required, but {self.file} holds no valid API key: make one "
                f"with `python -m {settings.PACKAGE} api-key create NAME` in this ENVIRONMENT, or "
                "set authentication.issuer, audience and jwks."
            )

    async def identify(self, headers: list[tuple[bytes, bytes]]) -> str:
        """The client's name: that of its key, or ``token:`` and the subject; "" if it sends none.

        A wrong credential is refused even where none is required. A request with two credentials
        is refused too: which one counts must not depend on proxies between client and API.

        :param headers: as in ASGI, names in lower case.
        :raises Problem: 401.
        """
        sent = [header for header in headers if header[0] in CREDENTIALS]
        if not sent:
            if self.required:
                token = " or a token" if self.tokens else ""
                ask = f"Send an API key as X-API-Key, or an API key{token} as"
                raise unauthenticated(f"{ask} Authorization: Bearer.", "Bearer")
            return ""
        if len(sent) > 1:
            raise unauthenticated("Send one credential: X-API-Key or Authorization, and once.")
        header, value = sent[0]
        if len(value) > LONGEST_CREDENTIAL or not value.isascii():
            raise unauthenticated(f"{header.decode()} is too long, or not plain ASCII.")
        if header == b"x-api-key":
            return self._client(value)
        scheme, _, credential = value.partition(b" ")
        if scheme.lower() != b"bearer":
            raise unauthenticated("Authorization must be: Bearer, a space, and a key or a token.")
        credential = credential.strip()
        if self.tokens and credential.count(b".") == 2:
            return await self.tokens.client(credential)
        return self._client(credential)

    def _client(self, key: bytes) -> str:
        client, end = self.keys.get(sha256(key).digest(), ("", 0.0))
        if not client:
            raise unauthenticated("The API key is unknown, wrong or revoked.")
        if end <= time.time():
            raise unauthenticated("The API key has expired.")
        return client

    def refresh(self) -> None:
        """Read the file of keys if it has changed, so that new and revoked keys need no restart.

        Call it about once a second. While the file cannot be read, the known keys stay valid. If
        the file does not exist, there are no keys.
        """
        if self.tokens:
            self.tokens.refresh()
        now = stamp(self.file)
        if now == self._stamp:
            return
        try:
            self._take(keys.read(self.file))
            self._stamp, self._failing = now, False
        except ProjectError as error:
            # The stamp is not updated, so the file is read again the next time.
            if not self._failing:
                log.warning("%s The keys known so far stay valid.", error)
            self._failing = True

    def _take(self, entries: dict[str, keys.Entry]) -> None:
        if self.keys and not entries:
            log.warning("%s holds no API key any more.", self.file)
        self.keys = {
            bytes.fromhex(entry.sha256): (
                name,
                entry.expires.timestamp() if entry.expires else float("inf"),
            )
            for name, entry in entries.items()
        }


def stamp(file: Path) -> tuple | None:
    """A value that is different after every change of the file; None if there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
