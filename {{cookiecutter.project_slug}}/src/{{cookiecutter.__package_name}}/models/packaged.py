"""A model folder as one sequence of bytes, which a store keeps or refuses as a whole.

The bytes are a zip archive of the two files of a model, without compression and without times, so
that the same model always has the same SHA-256.
"""

import hashlib
import io
import zipfile
from pathlib import Path

from ..errors import ProjectError
from .predict import LOADERS, METADATA, read_metadata

# A package is held in memory as a whole, and PostgreSQL takes at most 1 GB for a value.
LARGEST_BYTES = 500_000_000


def pack(folder: Path) -> bytes:
    """The package of the model in ``folder``.

    :raises ProjectError: there is no model in it, or a larger one than LARGEST_BYTES.
    """
    names = (METADATA, read_metadata(folder)["artifact"])
    size = sum((folder / name).stat().st_size for name in names)
    if size > LARGEST_BYTES:
        raise ProjectError(
            f"the model takes {size:,} bytes; this store keeps at most {LARGEST_BYTES:,}: "
            "keep it in an MLflow registry or in a folder."
        )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes())
    return content.getvalue()


def unpack(content: bytes, sha256: str, folder: Path, where: str) -> None:
    """Write the model of a package to ``folder``, after its digest was checked.

    :param where: what the package was read from; it begins the sentence.
    :raises ProjectError: the content is not what was saved.
    """
    found = digest(content)
    if found != sha256:
        raise ProjectError(
            f"{where} is not what was saved (SHA-256 {found[:12]}…, recorded {sha256[:12]}…): "
            "copy the model there again."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name != METADATA and name not in LOADERS:
                raise ProjectError(f"{where} holds {name!r}, which is no part of a model.")
            (folder / name).write_bytes(archive.read(name))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
