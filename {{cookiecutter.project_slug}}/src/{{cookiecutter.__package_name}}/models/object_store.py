"""A store of models in cloud storage (S3, Google, Azure) or in a folder, by obstore.

What lies below the store's path:

=====================  ========================================================================
``packages/<sha256>``  the bytes of models, see packaged.py
``versions/<n>.json``  what is known of a version, written once: with it the version exists
``tags/<n>/<k>.json``  what became of it, one file for each change, in their order
``aliases/<alias>``    the number of the version that bears the alias
=====================  ========================================================================

Each is written whole or not at all. A package whose saving was interrupted is no version; the next
copy of the same model makes use of it. Credentials come the providers' own ways: environment
variables, the machine's or the workload's identity.
"""

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from ..errors import ProjectError, brief
from .packaged import LARGEST_BYTES, digest, pack, unpack
from .predict import read_metadata
from .stores import MOST_LISTED, NoSuchModelError, NoSuchStoreError, Version

# Each request, tries included.
SECONDS, CONNECT_SECONDS, RETRIES = 300, 10, 3
# How many writers may take a number before us.
TRIES = 50
RECORDED = {"sha256", "package", "size", "created", "metrics"}


class ObjectStore:
    """:param uri: as the user gave it. :param folder: which it names, None in cloud storage."""

    def __init__(self, uri: str, folder: Path | None, allow_http: bool = False) -> None:
        self.name, self._folder, self._allow_http = uri, folder, allow_http

    @cached_property
    def _objects(self):
        from obstore.store import LocalStore, from_url

        if self._folder:
            if not self._folder.is_dir():
                raise NoSuchStoreError(f"{self.name}: there is no such folder.")
            return LocalStore(self._folder)
        options = {"timeout": timedelta(seconds=SECONDS), "allow_http": self._allow_http}
        options["connect_timeout"] = timedelta(seconds=CONNECT_SECONDS)
        retry = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=SECONDS)}
        return from_url(self.name, client_options=options, retry_config=retry)

    def versions(self) -> list[Version]:
        aliases: dict[str, list[str]] = {}
        for alias in self._names("aliases"):
            aliases.setdefault(self._text(f"aliases/{alias}") or "", []).append(alias)
        newest = map(str, self._numbers("versions")[: -MOST_LISTED - 1 : -1])
        return [self._version(number, tuple(aliases.get(number, ()))) for number in newest]

    def version(self, reference: str) -> Version:
        alias = reference[1:] if reference.startswith("@") else None
        number = self._text(f"aliases/{alias}") if alias else reference
        if not number or not number.isdigit():
            raise NoSuchModelError(f"{self.name}: there is no {reference or 'version'} in it.")
        return self._version(number, (alias,) if alias else ())

    def fetch(self, version: Version, folder: Path) -> None:
        record = self._record(version.number)
        content = self._bytes(f"packages/{record['package']}")
        where = f"{self.name}, version {version.number},"
        if content is None:
            raise ProjectError(f"{where} has lost its package: roll back, or copy it there again.")
        unpack(content, record["package"], folder, where)

    def save(self, folder: Path, tags: dict[str, str]) -> str:
        metadata, content = read_metadata(folder), pack(folder)
        package = digest(content)
        with self._reached():
            if self._folder:
                self._folder.mkdir(parents=True, exist_ok=True)
            self._put(f"packages/{package}", content)
            record = {
                "sha256": metadata["sha256"],
                "package": package,
                "size": len(content),
                "created": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "metrics": metadata.get("metrics", {}),
            }
            number = self._claim("versions", record)
        self.tag(number, tags)
        return number

    def _claim(self, folder: str, record: dict) -> str:
        """Write a record under the next free number of a folder."""
        from obstore.exceptions import AlreadyExistsError

        content = json.dumps(record, indent=2).encode()
        last = max(self._numbers(folder), default=0)
        for number in range(last + 1, last + 1 + TRIES):
            try:
                self._put(f"{folder}/{number}.json", content, mode="create")
                return str(number)
            except AlreadyExistsError:
                continue
        raise ProjectError(f"{self.name}: too many others write there at this moment.")

    def set_alias(self, alias: str, number: str) -> None:
        with self._reached():
            self._put(f"aliases/{alias}", number.encode())

    def drop_alias(self, alias: str) -> None:
        import obstore

        with self._reached():
            obstore.delete(self._objects, f"aliases/{alias}")

    def tag(self, number: str, tags: dict[str, str]) -> None:
        # A file of its own, so that of two who tag a version at once neither loses his tags.
        with self._reached():
            self._claim(f"tags/{number}", tags)

    def _version(self, number: str, aliases: tuple[str, ...]) -> Version:
        record = self._record(number)
        return Version(
            number,
            record["sha256"],
            record["size"],
            datetime.fromisoformat(record["created"]),
            aliases,
            self._tags(number),
            record["metrics"],
        )

    def _record(self, number: str) -> dict:
        found = self._text(f"versions/{number}.json")
        if found is None:
            raise NoSuchModelError(f"{self.name}: there is no version {number} in it.")
        record = self._json(f"versions/{number}.json", found)
        if missing := RECORDED - record.keys():
            raise ProjectError(f"{self.name}/versions/{number}.json has no {min(missing)}.")
        return record

    def _tags(self, number: str) -> dict:
        tags: dict[str, str] = {}
        for change in self._numbers(f"tags/{number}"):
            path = f"tags/{number}/{change}.json"
            tags |= self._json(path, self._text(path) or "{}")
        return tags

    def _json(self, path: str, text: str) -> dict:
        try:
            return dict(json.loads(text))
        except (TypeError, ValueError):
            raise ProjectError(f"{self.name}/{path} is damaged: restore it.") from None

    def _numbers(self, folder: str) -> list[int]:
        found = (name.removesuffix(".json") for name in self._names(folder))
        return sorted(int(name) for name in found if name.isdecimal())  # and no .DS_Store

    def _names(self, folder: str) -> list[str]:
        import obstore

        with self._reached():
            found = obstore.list_with_delimiter(self._objects, folder)["objects"]
        return [each["path"].rpartition("/")[2] for each in found]

    def _text(self, path: str) -> str | None:
        content = self._bytes(path)
        return None if content is None else content.decode(errors="replace")

    def _bytes(self, path: str) -> bytes | None:
        """An object's content, None where there is no such object."""
        import obstore

        with self._reached():
            try:
                found = obstore.get(self._objects, path)
            except FileNotFoundError:
                return None
            if found.meta["size"] > LARGEST_BYTES:
                raise ProjectError(f"{self.name}/{path} is larger than what is kept here.")
            return bytes(found.bytes())

    def _put(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        import obstore

        # In one piece, which is what makes it atomic everywhere.
        obstore.put(self._objects, path, content, mode=mode, use_multipart=False)

    @contextmanager
    def _reached(self):
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            yield
        except AlreadyExistsError:
            raise
        except (BaseError, OSError, ValueError) as error:
            raise ProjectError(f"{self.name}: {brief(error)}.") from None
