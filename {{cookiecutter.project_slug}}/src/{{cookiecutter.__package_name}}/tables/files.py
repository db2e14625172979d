"""The files of a URI: which are read, in which order, and why one cannot be read."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ProjectError, brief
from .databases import local_path, of_files
from .storage import CloudFile, CloudFolder, in_cloud

# A local file, or one in the cloud.
File = Path | CloudFile
FORMATS = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv"}
# SQLite files are skipped in folders, such as data/predictions; they are read by URL only.
DATABASE = re.compile(r"\.db(-journal|-wal|-shm)?$")
WANTED = f"give a file that ends in {', '.join(FORMATS)}, or a folder of them"
LOOKED_AT = READ_BYTES = 1 << 20
# The first bytes of files whose content does not match their name.
SIGNS = {
    b"\xff\xfe": "it is UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8",
    b"PK\x03\x04": "it is a spreadsheet's or an archive: save it as csv",
    b"\x1f\x8b": "it is packed: let its name end in .csv.gz",
    b"PAR1": "it is parquet: let its name end so",
}


def files(uri: str) -> list[File]:
    """The parquet and csv files of a URI in the order they are read; empty for a database."""
    if not of_files(uri):
        return []
    found = data_files(uri)
    if not found:
        empty = not in_cloud(uri) and local_path(uri).exists()
        raise ProjectError(f"{uri} {'holds no file' if empty else 'does not exist'}; {WANTED}.")
    return found


def data_files(uri: str) -> list[File]:
    """The files of a path or a folder; hidden ones and databases are left out.

    :raises ProjectError: a file is of another kind, so that its data would be missing.
    """
    if in_cloud(uri):
        folder = CloudFolder(uri)
        found = [file for file in folder.files() if _is_data(file.path, folder.prefix)]
        found.sort(key=lambda file: file.path.split("/"))
    else:
        path = local_path(uri)
        found = list(_below(path)) if path.is_dir() else [path] if path.exists() else []
    for name in map(str, found):
        if name != name.encode(errors="replace").decode():
            raise ProjectError(f"{name!a} cannot be read: its name is no UTF-8.")
    if other := [each for each in found if format_of(each) is None or not _is_file(each)]:
        more = f" (and {len(other) - 1} more)" if len(other) > 1 else ""
        hint = "; what is no data may be named with a dot or _ in front" if len(found) > 1 else ""
        raise ProjectError(f"{other[0]} cannot be read{more}: {WANTED}{hint}.")
    return found


def _below(folder: Path) -> Iterator[Path]:
    for each in sorted(folder.iterdir()):
        if not _is_data(each.name):
            continue
        if each.is_dir():
            yield from _below(each)
        else:
            yield each


def _is_data(path: str, folder: str = "") -> bool:
    """Whether a path contains no hidden file or folder and no SQLite file."""
    names = path.removeprefix(folder).strip("/").split("/")
    return not any(name[:1] in (".", "_") or DATABASE.search(name) for name in names)


def _is_file(file: File) -> bool:
    return isinstance(file, CloudFile) or file.is_file()


def state(file: File) -> tuple:
    """Values that change with the file; empty in the cloud, where reading detects a change."""
    if isinstance(file, CloudFile):
        return ()
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def format_of(path: File) -> str | None:
    """``parquet`` or ``csv``, by the end of the name; None for any other file."""
    name = path.name.lower()
    return next((each for end, each in FORMATS.items() if name.endswith(end)), None)


@contextmanager
def readable(path: File):
    """Turn Arrow's error for an unreadable file into a message about that file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None):
            raise  # an error of the operating system, which may be temporary
        what = f"{path} cannot be read as {format_of(path)}"
        raise ProjectError(f"{what}: {_cause(path) or brief(error)}.") from None


def _cause(path: File) -> str | None:
    """The most common causes, in clearer words than Arrow's; None for another cause."""
    if format_of(path) != "csv":
        return None
    try:
        with here(path) as copy, csv_text(copy) as file:
            start = file.read(LOOKED_AT)
    except (pa.ArrowInvalid, OSError):
        return None
    if sign := next(filter(start.startswith, SIGNS), None):
        return SIGNS[sign]
    header = start.partition(b"\n")[0]
    if b"," not in header and (marks := [mark for mark in (b";", b"\t", b"|") if mark in header]):
        return f"its cells are separated by {marks[0].decode()!r}: write it with commas"
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if len(start) < LOOKED_AT or error.start < len(start) - 3:  # not a cut last character
            return "it is no UTF-8, perhaps Latin-1: save it as UTF-8"
    return None


@contextmanager
def here(file: File) -> Iterator[Path]:
    """A local file itself, or a temporary copy of a file in the cloud.

    Arrow's threads must not read a Python file object: they hang if the program ends meanwhile.
    """
    if isinstance(file, Path):
        yield file
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with file.open("rb") as source, (copy := Path(folder) / file.name).open("wb") as target:
            shutil.copyfileobj(source, target, READ_BYTES)
        yield copy


def csv_text(path: Path) -> pa.NativeFile:
    """The text of a csv file, unpacked if its name ends in .gz."""
    return pa.input_stream(path, compression="gzip" if path.suffix.lower() == ".gz" else None)


def parquet(path: File) -> pq.ParquetFile:
    """A parquet file that is read in pieces of row groups; in the cloud, only for its footer."""
    source = path if isinstance(path, Path) else path.open("rb")
    # With pre_buffer, Arrow would hold all row groups in memory at once.
    return pq.ParquetFile(source, pre_buffer=False, buffer_size=READ_BYTES)
