"""Folders by URI: local, or in cloud storage (S3, Google, Azure) through obstore.

A file is complete or does not exist. The providers' own mechanisms supply cloud credentials.
"""

import io
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import ProjectError, brief, hidden

CLOUD = {"abfs", "abfss", "az", "gs", "s3"}
# Time limit for one request including its retries, and the number of retries.
SECONDS, RETRIES = 300, 3
READ_BYTES = 4 << 20  # per read of a file in the cloud
# A folder in a bucket, without other parts of a URL such as a port or query, and without "..".
ADDRESS = re.compile(r"(\w+://[^/:?#]+)((?:/(?!\.\.(?:/|$))[^/?#]+)*)/?")
# The machine's metadata service, which is asked if the environment has no credentials.
OF_MACHINE = ("169.254.169.254", "metadata.google.internal")


def in_cloud(uri: str) -> bool:
    return uri.partition("://")[0] in CLOUD


def folder(uri: str) -> "LocalFolder | CloudFolder":
    """The folder at an absolute path, or at a URI of cloud storage.

    :raises ProjectError: the URI is of another kind.
    """
    if "://" in uri and not in_cloud(uri):
        known = ", ".join(f"{scheme}://" for scheme in sorted(CLOUD))
        raise ProjectError(f"{hidden(uri)} is no folder: give a path, or {known} and a bucket.")
    return CloudFolder(uri) if in_cloud(uri) else LocalFolder(Path(uri))


@dataclass(frozen=True)
class LocalFolder:
    """A local folder; it is created when a file is written."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A path to write a file to; the file gets its name when the block ends without error."""
        self.path.mkdir(parents=True, exist_ok=True)
        # Several processes may write the same file: each writes its own, and the last one wins.
        unfinished = self.path / f".{uuid.uuid4().hex}.{name}"
        try:
            yield unfinished
            unfinished.replace(self.path / name)
        finally:
            unfinished.unlink(missing_ok=True)

    def find(self, name: str) -> Path:
        """The path of a file, which may not exist."""
        return self.path / name

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


class CloudFolder:
    """A folder in a bucket.

    :raises ProjectError: the URI is not such a folder; every method raises it if a request fails.
    """

    def __init__(self, uri: str) -> None:
        if not (found := ADDRESS.fullmatch(uri)):
            raise ProjectError(f"{hidden(uri)}: give a bucket and a folder in it, nothing else.")
        self.bucket, self.prefix = found[1], found[2].strip("/")

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}".rstrip("/")

    def get(self, name: str, most: int, seconds: int = SECONDS) -> tuple[bytes, dict] | None:
        """Content and version of a file of at most ``most`` bytes; None if it does not exist."""
        import obstore

        with self._reached(seconds) as bucket:
            try:
                found = obstore.get(bucket, self._key(name))
            except FileNotFoundError:
                return None
            if found.meta["size"] > most:
                raise ProjectError(f"{self}/{name} is larger than what is kept here.")
            version = {key: found.meta[key] for key in ("e_tag", "version") if found.meta[key]}
            return bytes(found.bytes()), version

    def put(self, name: str, content: bytes | Path, replaced: dict | str = "overwrite") -> None:
        """Write a file.

        :param replaced: the version to replace, from ``get``; "create" if there must be none.
        :raises FileExistsError: there is another version.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._reached() as bucket:
            # Bytes go in one request, which every provider handles atomically.
            whole = {"use_multipart": False} if isinstance(content, bytes) else {}
            try:
                obstore.put(bucket, self._key(name), content, mode=replaced, **whole)
            except (AlreadyExistsError, PreconditionError):
                raise FileExistsError(f"{self}/{name}") from None

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """See ``LocalFolder.file``."""
        with tempfile.TemporaryDirectory() as temporary:
            yield (path := Path(temporary) / name)
            self.put(name, path)

    def files(self) -> Iterator["CloudFile"]:
        """All files in the folder and below; the one file, if the URI names a file."""
        import obstore

        with self._reached() as bucket:
            found = [each for page in obstore.list(bucket, self.prefix) for each in page]
            # Web consoles create empty objects for folders; obstore lists them without the slash.
            folders = {self.prefix, *(each["path"].rpartition("/")[0] for each in found)}
            found = [each for each in found if each["size"] or not _is_mark(each, folders)]
            if not found and self.prefix:
                with suppress(FileNotFoundError):
                    found = [obstore.head(bucket, self.prefix)]
        whole = CloudFolder(self.bucket)
        for each in found:
            yield CloudFile(whole, each["path"], each["size"], each["e_tag"])

    def find(self, name: str) -> "CloudFile":
        """:raises FileNotFoundError: there is no such file."""
        import obstore

        with self._reached() as bucket, suppress(FileNotFoundError):
            found = obstore.head(bucket, self._key(name))
            return CloudFile(self, name, found["size"], found["e_tag"])
        raise FileNotFoundError(f"{self}/{name} is not there.")

    def range(self, file: "CloudFile", start: int, end: int) -> bytes:
        """The bytes of a file from ``start`` up to ``end``.

        :raises ProjectError: the file has changed since it was found.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        options = {"range": (start, end)} | ({"if_match": file.e_tag} if file.e_tag else {})
        with self._reached() as bucket:
            try:
                return bytes(obstore.get(bucket, self._key(file.path), options=options).bytes())
            except (FileNotFoundError, PreconditionError):
                raise ProjectError(f"{file} was changed while it was read.") from None

    def remove(self, names: Iterable[str]) -> None:
        import obstore

        if keys := [self._key(name) for name in names]:
            with self._reached() as bucket, suppress(FileNotFoundError):
                obstore.delete(bucket, keys)

    def clear(self) -> None:
        """Remove all files of the folder; a failure is ignored."""
        with suppress(ProjectError):
            CloudFolder(self.bucket).remove([file.path for file in self.files()])

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}".lstrip("/")

    @contextmanager
    def _reached(self, seconds: int = SECONDS):
        """The bucket; obstore's errors become messages for the user."""
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        for name, value in os.environ.items():
            if name.startswith(("AWS_", "AZURE_")) and "ENDPOINT" in name and "://" not in value:
                raise ProjectError(f"{name}={value}: begin it with https:// or http://.")
        limit = timedelta(seconds=seconds)
        options: dict[str, Any] = {"timeout": limit, "connect_timeout": timedelta(seconds=10)}
        # Without TLS only if the user sets an http endpoint.
        options["allow_http"] = True
        retry = {"max_retries": RETRIES, "retry_timeout": limit}
        try:
            yield from_url(self.bucket, client_options=options, retry_config=retry)
        except FileExistsError:
            raise
        except FileNotFoundError:
            raise ProjectError(f"{self.bucket}: there is no such bucket.") from None
        except (BaseError, OSError, ValueError) as error:
            if "404 Not Found" in str(error):
                raise ProjectError(f"{self.bucket}: there is no such bucket.") from None
            if any(each in str(error) for each in OF_MACHINE):
                raise ProjectError(
                    f"{self}: there are no credentials for it, neither in the environment nor "
                    "of this machine; docs/models.md names the ways."
                ) from None
            raise ProjectError(f"{self}: {brief(error)}.") from None


def _is_mark(found: dict, folders: set[str]) -> bool:
    return found["path"] in folders or not Path(found["path"]).suffix


@dataclass(frozen=True)
class CloudFile:
    """A file in the cloud, with the methods of ``Path`` that readers use."""

    folder: CloudFolder
    path: str
    size: int
    e_tag: str | None

    def __str__(self) -> str:
        return f"{self.folder}/{self.path}"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def open(self, mode: str = "rb") -> BinaryIO:
        """See ``Path.open``."""
        return io.BufferedReader(_Reader(self), READ_BYTES)


class _Reader(io.RawIOBase):
    """The content of a file in the cloud, read by ranges."""

    def __init__(self, file: CloudFile) -> None:
        self.file, self.at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.file.size}
        self.at = starts[whence] + offset
        return self.at

    def readall(self) -> bytes:
        return self.read(max(0, self.file.size - self.at))

    def readinto(self, buffer) -> int:
        end = min(self.at + len(buffer), self.file.size)
        if end <= self.at:
            return 0
        content = self.file.folder.range(self.file, self.at, end)
        buffer[: len(content)] = content
        self.at += len(content)
        return len(content)
