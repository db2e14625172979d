"""``api-key``: create, list and revoke the API keys of clients.

The file of keys holds names and hashes, never a key. One SHA-256 is enough: a key has 256 random
bits, so nobody can try them all. A slow hash, as for passwords, would cost each request far more
than the prediction does.
"""

import argparse
import re
import secrets
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, RootModel

from .. import settings
from ..errors import ProjectError, brief
from ..tables.json_files import write_json
from ..tables.locks import only_one

NAME = r"[A-Za-z0-9_-]{1,40}"
MOST_DAYS = 36_500
LOCK_SECONDS = 5


class Entry(settings.Section):
    """What is stored of an API key: everything but the key itself."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None = None


class Entries(RootModel[dict[Annotated[str, Field(pattern=f"^{NAME}$")], Entry]]):
    """The file of API keys, by name."""


def read(file: Path) -> dict[str, Entry]:
    """The API keys by name; none where there is no file.

    :raises ProjectError: it cannot be read, or is damaged.
    """
    try:
        return Entries.model_validate_json(file.read_bytes()).root
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ProjectError(f"the API keys cannot be read: {brief(error)}.") from None
    except ValueError:
        # Without pydantic's message, which quotes the file.
        raise ProjectError(
            f"{file} is damaged: put back a copy of it, or remove it and make new API keys."
        ) from None


def write(file: Path, entries: dict[str, Entry]) -> None:
    write_json(file, Entries(entries).model_dump(mode="json"))
    file.chmod(0o600)


def _changing(file: Path):
    """Lock the file while it is read, changed and written."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return only_one(file.name, file.parent, "api-key", LOCK_SECONDS)


def create(file: Path, name: str, days: int | None = None) -> str:
    """Create an API key, valid for ``days`` or until it is revoked. Only its hash is stored.

    :raises ProjectError: the name is taken or invalid, or ``days`` is out of range.
    """
    if not re.fullmatch(NAME, name):
        raise ProjectError("the name of an API key is 1 to 40 letters, digits, hyphens or _.")
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise ProjectError(f"--days must be from 1 to {MOST_DAYS}.")
    key, now = secrets.token_urlsafe(32), datetime.now(UTC).replace(microsecond=0)
    expires = now + timedelta(days) if days else None
    entry = Entry(sha256=sha256(key.encode()).hexdigest(), created=now, expires=expires)
    with _changing(file):
        entries = read(file)
        if name in entries:
            raise ProjectError(f"there is an API key {name} already: revoke it, or choose another.")
        write(file, {**entries, name: entry})
    return key


def revoke(file: Path, name: str) -> None:
    """:raises ProjectError: there is no such key."""
    with _changing(file):
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
