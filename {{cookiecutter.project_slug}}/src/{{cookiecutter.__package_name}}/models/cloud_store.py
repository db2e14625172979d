"""A model in cloud storage (S3, Google, Azure).

``<uri>/<sha256>`` is the artifact. ``<uri>/metadata.json`` names it and is written last, so that an
interrupted save has no effect.
"""

import json

from ..errors import ProjectError
from ..tables.storage import SECONDS, CloudFolder
from .artifact import METADATA, parse_metadata

METADATA_SECONDS = 30  # for metadata.json, retries included


class CloudStore:
    """See ``stores.Store``; a file larger than ``most`` bytes is not read."""

    def __init__(self, uri: str, most: int) -> None:
        self.folder, self.most = CloudFolder(uri), most

    def metadata(self) -> dict:
        content = self._content(METADATA, METADATA_SECONDS)
        if content is None:
            raise ProjectError(f"{self.folder} holds no model: there is no {METADATA} in it.")
        return parse_metadata(content, f"{self.folder}/{METADATA}")

    def read(self) -> tuple[dict, bytes]:
        metadata = self.metadata()
        content = self._content(metadata["sha256"], SECONDS)
        if content is None:
            raise ProjectError(f"{self.folder} has lost its model: copy it there again.")
        return metadata, content

    def save(self, content: bytes, metadata: dict) -> None:
        self.folder.put(metadata["sha256"], content)
        self.folder.put(METADATA, json.dumps(metadata, indent=2).encode())

    def _content(self, name: str, seconds: int) -> bytes | None:
        found = self.folder.get(name, self.most, seconds)
        return found and found[0]
