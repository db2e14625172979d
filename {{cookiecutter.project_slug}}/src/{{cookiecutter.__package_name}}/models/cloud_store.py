"""A model in cloud storage (S3, Google, Azure), by obstore.

``<uri>/<sha256>`` holds its artifact, and ``<uri>/metadata.json``, which is written last, names it:
a model whose saving was interrupted is not there. Credentials come the providers' own ways.
"""

import json
import re
from contextlib import contextmanager
from datetime import timedelta

from ..errors import ProjectError, brief, hidden
from .predict import METADATA, parse_metadata

# Each request, tries included: for metadata.json, and for a model.
SECONDS, MODEL_SECONDS, RETRIES = 30, 300, 3
# A folder in a bucket; obstore would leave out what follows a ? or #, and go up with "..".
ADDRESS = re.compile(r"\w+://[^/:?#]+(/(?!\.\.(/|$))[^/?#]*)*")
# The machine's own service, which is asked where the environment has no credentials.
OF_MACHINE = ("169.254.169.254", "metadata.google.internal")


class CloudStore:
    """See ``stores.Store``; an object of more than ``most`` bytes is not read."""

    def __init__(self, uri: str, most: int) -> None:
        if not ADDRESS.fullmatch(uri):
            raise ProjectError(f"{hidden(uri)}: give a bucket and a folder in it, nothing else.")
        self.uri, self.most = uri, most

    def metadata(self) -> dict:
        content = self._bytes(METADATA, SECONDS)
        if content is None:
            raise ProjectError(f"{self.uri} holds no model: there is no {METADATA} in it.")
        return parse_metadata(content, f"{self.uri}/{METADATA}")

    def read(self) -> tuple[dict, bytes]:
        metadata = self.metadata()
        content = self._bytes(metadata["sha256"], MODEL_SECONDS)
        if content is None:
            raise ProjectError(f"{self.uri} has lost its model: copy it there again.")
        return metadata, content

    def save(self, content: bytes, metadata: dict) -> None:
        self._put(metadata["sha256"], content)
        self._put(METADATA, json.dumps(metadata, indent=2).encode())

    def _bytes(self, path: str, seconds: int) -> bytes | None:
        """An object's content, None where there is no such object."""
        import obstore

        with self._reached(seconds) as objects:
            try:
                found = obstore.get(objects, path)
            except FileNotFoundError:
                return None
            if found.meta["size"] > self.most:
                raise ProjectError(f"{self.uri}/{path} is larger than what is kept here.")
            return bytes(found.bytes())

    def _put(self, path: str, content: bytes) -> None:
        import obstore

        with self._reached(MODEL_SECONDS) as objects:
            # In one piece, which is what makes it atomic everywhere.
            obstore.put(objects, path, content, use_multipart=False)

    @contextmanager
    def _reached(self, seconds: int):
        """obstore's store, and what it says as a sentence."""
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        limit = timedelta(seconds=seconds)
        options = {"timeout": limit, "connect_timeout": timedelta(seconds=10)}
        # Only an endpoint that somebody names has no TLS.
        options["allow_http"] = True
        retry = {"max_retries": RETRIES, "retry_timeout": limit}
        try:
            yield from_url(self.uri, client_options=options, retry_config=retry)
        except FileNotFoundError:
            raise ProjectError(f"{self.uri}: there is no such bucket.") from None
        except (BaseError, OSError, ValueError) as error:
            if any(each in str(error) for each in OF_MACHINE):
                raise ProjectError(
                    f"{self.uri}: there are no credentials for it, neither in the environment nor "
                    "of this machine; docs/models.md names the ways."
                ) from None
            raise ProjectError(f"{self.uri}: {brief(error)}.") from None
