"""The files of a URI: which are read, in which order, and what is wrong with one that cannot be."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from ..errors import ProjectError, brief
from .databases import local_path

FORMATS = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv"}
# SQLite's files are named by URL, never read as part of a folder; data/predictions may hold some.
DATABASE = re.compile(r"\.db(-journal|-wal|-shm)?$")
WANTED = f"give a file that ends in {', '.join(FORMATS)}, or a folder of them"
LOOKED_AT = 1 << 20  # bytes
# How a file begins that is something else than its name says.
SIGNS = {
    b"\xff\xfe": "it is UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8",
    b"PK\x03\x04": "it is a spreadsheet's or an archive: save it as csv",
    b"\x1f\x8b": "it is packed: let its name end in .csv.gz",
    b"PAR1": "it is parquet: let its name end so",
}


def files(uri: str) -> list[Path]:
    """The parquet and csv files of a URI in the order they are read; hidden ones are left out."""
    path = local_path(uri)
    if path is None:
        return []
    found = data_files(path)
    if not found:
        what = "holds no file" if path.exists() else "does not exist"
        raise ProjectError(f"{path} {what}; {WANTED}.")
    return found


def data_files(path: Path) -> list[Path]:
    """:raises ProjectError: one of them is of another kind, and would be left out unseen."""
    found = list(_below(path)) if path.is_dir() else [path] if path.exists() else []
    if other := [each for each in found if format_of(each) is None or not each.is_file()]:
        more = f" (and {len(other) - 1} more)" if len(other) > 1 else ""
        hint = "; what is no data may be named with a dot or _ in front" if path.is_dir() else ""
        raise ProjectError(f"{other[0]} cannot be read{more}: {WANTED}{hint}.")
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Whatever is in a folder and below, but what is hidden and databases."""
    for each in sorted(folder.iterdir()):
        if each.name[0] in "._" or DATABASE.search(each.name):
            continue
        if each.is_dir():
            yield from _below(each)
        else:
            yield each


def format_of(path: Path) -> str | None:
    """``parquet`` or ``csv``, by the end of the name; None for any other file."""
    name = path.name.lower()
    return next((each for end, each in FORMATS.items() if name.endswith(end)), None)


@contextmanager
def readable(path: Path):
    """What Arrow says of a file it cannot read, as a sentence about that file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None):
            raise  # the system's own, which may be another one the next time
        what = f"{path} cannot be read as {format_of(path)}"
        raise ProjectError(f"{what}: {_cause(path) or brief(error)}.") from None


def _cause(path: Path) -> str | None:
    """What people meet most, said better than Arrow says it."""
    if format_of(path) != "csv":
        return None
    try:
        with csv_text(path) as file:
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
        if len(start) < LOOKED_AT or error.start < len(start) - 3:  # not only cut off there
            return "it is no UTF-8, perhaps Latin-1: save it as UTF-8"
    return None


def csv_text(path: Path) -> pa.NativeFile:
    """The text of a csv file, unpacked if its name ends in .gz."""
    return pa.input_stream(path, compression="gzip" if path.suffix.lower() == ".gz" else None)
