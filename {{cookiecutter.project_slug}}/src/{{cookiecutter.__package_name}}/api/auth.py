"""Who asks: API keys, which this module makes and revokes, and tokens, which tokens.py verifies.

A client sends ``NAME.SECRET`` as ``X-API-Key`` or as ``Authorization: Bearer``, or a token as
``Authorization: Bearer``. The file of keys holds names, salts and hashes, never a secret. One
salted SHA-256 is enough: a secret has 256 random bits, so nobody can try them all, and a slow hash
as for passwords would cost each request far more than the prediction does.
"""

import argparse
import hmac
import logging
import os
import re
import secrets
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, RootModel

from .. import settings
from ..errors import ProjectError, brief
from ..tables.locks import only_one
from .problems import unauthenticated

NAME = r"[A-Za-z0-9_-]{1,40}"
LONGEST_CREDENTIAL = 8_192
LONGEST_FILE = 1_000_000  # bytes, some thousand keys
MOST_DAYS = 36_500
LOCK_SECONDS = 5
CREDENTIALS = frozenset([b"x-api-key", b"authorization"])
# In place of an unknown name: refusing it takes the same steps as refusing a wrong secret.
NOBODY = ("", bytes(16), bytes(32), 0.0)
log = logging.getLogger(__name__)


class Entry(settings.Section):
    """What is kept of an API key: everything but its secret."""

    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of salt and secret")
    created: AwareDatetime
    expires: AwareDatetime | None = None


class Entries(RootModel[dict[Annotated[str, Field(pattern=f"^{NAME}$")], Entry]]):
    """The file of API keys, by name."""


class Authenticator:
    """Tells which client sent a request.

    :raises ProjectError: credentials are required and there is no way to have one, or the file of
        keys cannot be read.
    """

    def __init__(self, config: settings.Authentication) -> None:
        self.required, self.file = config.required, Path(config.keys)
        self.tokens = None
        if config.jwks:
            from . import tokens  # here, because it takes PyJWT and cryptography

            self.tokens = tokens.Tokens(config)
        # Name: (name, salt, hash, end in s since 1970).
        self.keys: dict[bytes, tuple[str, bytes, bytes, float]] = {}
        self.stamp, self.failing = stamp(self.file), False
        self._take(read(self.file))
        valid = any(end > time.time() for *_, end in self.keys.values())
        if self.required and not valid and not self.tokens:
            raise ProjectError(
                f"authentication is required, but {self.file} holds no valid API key: make one "
                f"with `python -m {settings.PACKAGE} api-key create NAME` in this ENVIRONMENT, or "
                "set authentication.issuer, audience and jwks."
            )

    def prepare(self) -> None:
        """Fetch the keys of the tokens' issuer before the first request; takes seconds at most.

        :raises ProjectError: they cannot be read.
        """
        if self.tokens:
            self.tokens.load()

    async def identify(self, headers: list[tuple[bytes, bytes]]) -> str:
        """The client's name: of its key, or ``token:`` and its subject; "" if it need not have one.

        A wrong credential is refused even where none is required. A request with two of them is
        refused too: which one counts must not depend on what stands between client and API.

        :param headers: as in ASGI, names in lower case.
        :raises Problem: 401.
        """
        sent = [header for header in headers if header[0] in CREDENTIALS]
        if not sent:
            if self.required:
                raise unauthenticated(self._ask(), "Bearer")
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

    def _ask(self) -> str:
        token = " or a token" if self.tokens else ""
        return f"Send an API key as X-API-Key, or an API key{token} as Authorization: Bearer."

    def _client(self, key: bytes) -> str:
        """The name of the API key ``NAME.SECRET``, in about 2 µs."""
        name, _, secret = key.partition(b".")
        client, salt, kept, end = self.keys.get(name, NOBODY)
        if not hmac.compare_digest(sha256(salt + secret).digest(), kept):
            raise unauthenticated("The API key is unknown, wrong or revoked.")
        if end <= time.time():
            raise unauthenticated("The API key has expired.")
        return client

    def refresh(self) -> None:
        """Follow the file of keys, so that new and revoked ones need no restart.

        To be called about every second. While the file cannot be read, the keys that were valid
        stay so; a file that is gone holds none.
        """
        if self.tokens:
            self.tokens.refresh()
        now = stamp(self.file)
        if now == self.stamp:
            return
        try:
            self._take(read(self.file))
            self.stamp, self.failing = now, False
        except ProjectError as error:
            # The stamp stays the old one, so the file is read again the next time.
            if not self.failing:
                log.warning("%s The keys known so far stay valid.", error)
            self.failing = True

    def _take(self, entries: dict[str, Entry]) -> None:
        if self.keys and not entries:
            log.warning("%s holds no API key any more.", self.file)
        self.keys = {
            name.encode(): (
                name,
                bytes.fromhex(entry.salt),
                bytes.fromhex(entry.sha256),
                entry.expires.timestamp() if entry.expires else float("inf"),
            )
            for name, entry in entries.items()
        }


def stamp(file: Path) -> tuple | None:
    """Another one whenever the file was changed; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read(file: Path) -> dict[str, Entry]:
    """The API keys by name; none where there is no file.

    :raises ProjectError: it cannot be read, or is damaged.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(LONGEST_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ProjectError(f"the API keys cannot be read: {brief(error)}.") from None
    try:
        if len(text) > LONGEST_FILE:
            raise ValueError
        return Entries.model_validate_json(text).root
    except ValueError:
        # Without pydantic's words, which quote the file.
        raise ProjectError(
            f"{file} is damaged: put back a copy of it, or remove it and make new API keys."
        ) from None


def write(file: Path, entries: dict[str, Entry]) -> None:
    """Replace the file at once, readable only for its owner: a reader sees the old or the new."""
    text = Entries(entries).model_dump_json(indent=1).encode()
    if len(text) > LONGEST_FILE:
        raise ProjectError(f"{file} is full: revoke API keys that nobody uses.")
    handle, unfinished = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        Path(unfinished).replace(file)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def changing(file: Path):
    """Hold the file while it is read, changed and written."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return only_one(f"{file.name}.lock", file.parent, "api-key", LOCK_SECONDS)


def create(file: Path, name: str, days: int | None = None) -> str:
    """A new API key, valid for ``days`` or until it is revoked. Only its hash is kept.

    :raises ProjectError: the name is taken or unfit, or so are the days.
    """
    if not re.fullmatch(NAME, name):
        raise ProjectError("the name of an API key is 1 to 40 letters, digits, hyphens or _.")
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise ProjectError(f"--days must be from 1 to {MOST_DAYS}.")
    salt, secret = secrets.token_bytes(16), secrets.token_urlsafe(32)
    now = datetime.now(UTC).replace(microsecond=0)
    entry = Entry(
        salt=salt.hex(),
        sha256=sha256(salt + secret.encode()).hexdigest(),
        created=now,
        expires=now + timedelta(days) if days else None,
    )
    with changing(file):
        entries = read(file)
        if name in entries:
            raise ProjectError(f"there is an API key {name} already: revoke it, or choose another.")
        write(file, {**entries, name: entry})
    return f"{name}.{secret}"


def revoke(file: Path, name: str) -> None:
    """:raises ProjectError: there is no such key."""
    with changing(file):
        entries = read(file)
        if name not in entries:
            raise ProjectError(f"there is no API key {name}; `api-key list` shows all.")
        del entries[name]
        write(file, entries)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    creating = actions.add_parser("create", help="make an API key and print it, once")
    creating.add_argument("name", metavar="NAME", help="whose key it is, such as shop-2")
    creating.add_argument("--days", type=int, help="how long it is valid (until revoked)")
    actions.add_parser("list", help="show the names and dates of all API keys")
    revoking = actions.add_parser("revoke", help="make an API key invalid for good")
    revoking.add_argument("name", metavar="NAME")


def run(arguments: argparse.Namespace) -> int:
    file = Path(settings.load().authentication.keys)
    if arguments.action == "create":
        print(create(file, arguments.name, arguments.days))
        note = f"This API key is shown only now; {file} keeps a hash of it."
        print(note, "A running API accepts it within seconds.", file=sys.stderr)
    elif arguments.action == "revoke":
        revoke(file, arguments.name)
        print(f"{arguments.name} is revoked. A running API refuses it within seconds.")
    else:
        show(read(file))
    return 0


def show(entries: dict[str, Entry]) -> None:
    if not entries:
        print("there is no API key yet; `api-key create NAME` makes one")
        return
    print(f"{'name':<42}{'created (UTC)':<21}expires (UTC)")
    for name, entry in sorted(entries.items()):
        past = " (past)" if entry.expires and entry.expires <= datetime.now(UTC) else ""
        print(f"{name:<42}{_utc(entry.created):<21}{_utc(entry.expires)}{past}")


def _utc(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if moment else "never"
