"""A model in cloud storage (S3, Google, Azure), by obstore.

``<uri>/<sha256>.zip`` holds its bytes, and ``<uri>/metadata.json``, which is written last, names
them: a model whose saving was interrupted is not there. Credentials come the providers' own ways.
"""

import json
from contextlib import contextmanager
from datetime import timedelta

from ..errors import ProjectError, brief
from .packaged import LARGEST_BYTES
from .predict import METADATA

# Each request, tries included.
SECONDS, CONNECT_SECONDS, RETRIES = 300, 10, 3


class CloudStore:
    """See ``stores.Store``."""

    def __init__(self, uri: str, allow_http: bool) -> None:
        from obstore.store import from_url

        self.uri = uri
        limit = timedelta(seconds=SECONDS)
        options = {"timeout": limit, "connect_timeout": timedelta(seconds=CONNECT_SECONDS)}
        options["allow_http"] = allow_http
        retry = {"max_retries": RETRIES, "retry_timeout": limit}
        with self._reached():
            self._objects = from_url(uri, client_options=options, retry_config=retry)

    def metadata(self) -> dict:
        content = self._bytes(METADATA)
        if content is None:
            raise ProjectError(f"{self.uri} holds no model: there is no {METADATA} in it.")
        try:
            found = json.loads(content)
            return found | {"package": str(found["package"]), "sha256": str(found["sha256"])}
        except (KeyError, TypeError, ValueError):
            raise ProjectError(f"{self.uri}/{METADATA} is damaged: copy the model again.") from None

    def read(self) -> tuple[dict, bytes]:
        metadata = self.metadata()
        content = self._bytes(f"{metadata['package']}.zip")
        if content is None:
            raise ProjectError(f"{self.uri} has lost its model: copy it there again.")
        return metadata, content

    def save(self, content: bytes, metadata: dict) -> None:
        import obstore

        kept = [f"{metadata['package']}.zip", METADATA]
        if before := self._bytes(METADATA):
            kept.append(f"{json.loads(before).get('package')}.zip")  # who reads it may go on
        with self._reached():
            self._put(kept[0], content)
            self._put(METADATA, json.dumps(metadata, indent=2).encode())
            for each in obstore.list_with_delimiter(self._objects)["objects"]:
                if each["path"].endswith(".zip") and each["path"] not in kept:
                    obstore.delete(self._objects, each["path"])

    def _bytes(self, path: str) -> bytes | None:
        """An object's content, None where there is no such object."""
        import obstore

        with self._reached():
            try:
                found = obstore.get(self._objects, path)
            except FileNotFoundError:
                return None
            if found.meta["size"] > LARGEST_BYTES:
                raise ProjectError(f"{self.uri}/{path} is larger than what is kept here.")
            return bytes(found.bytes())

    def _put(self, path: str, content: bytes) -> None:
        import obstore

        # In one piece, which is what makes it atomic everywhere.
        obstore.put(self._objects, path, content, use_multipart=False)

    @contextmanager
    def _reached(self):
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise ProjectError(f"{self.uri}: {brief(error)}.") from None
