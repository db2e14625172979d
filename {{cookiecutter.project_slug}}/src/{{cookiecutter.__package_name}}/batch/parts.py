"""Tables in parts, read and written in record batches, so that memory stays bounded.

An input is a URI as ``reader.py`` reads it, and the files that belong to it, none for a database.
"""

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from ..tables.databases import connect, identity
from ..tables.files import data_files, format_of, readable
from ..tables.reader import csv_batches, csv_columns, plain, selection, sql_batches, sql_source

BATCH_ROWS = 65_536
HASHED_BYTES = 1 << 20
# Otherwise Arrow would hold all the row groups that are read, at once.
STREAMED = {"pre_buffer": False, "buffer_size": 1 << 20}
# Text that is the same in many rows, kept once; readers of a file see plain text.
REPEATED = pa.dictionary(pa.int32(), pa.string())


class Window(NamedTuple):
    """The rows of a table with ``after < column <= until``; ``after`` None means from the start."""

    column: str
    after: Any
    until: Any


@dataclass(frozen=True)
class Part:
    """Consecutive rows of one file or query: the unit that is scored, written and resumed.

    ``file`` counts the input's files, ``number`` the parts of one file, ``start`` the rows of
    ``source`` before its first row, all from 0.
    """

    file: int
    number: int
    source: str
    start: int
    batches: Callable[[], Iterator[pa.RecordBatch]]

    @property
    def name(self) -> str:
        return part_name(self.file, self.number)


@dataclass(frozen=True)
class Section:
    """Where one reader finds its rows: a parquet part, a whole csv file, a stored part."""

    file: int
    path: Path
    source: str
    number: int = 0
    start: int = 0
    groups: tuple[int, ...] = ()

    @property
    def name(self) -> str | None:
        """Of its one part; None for a csv file, whose parts are not known before it is read."""
        return None if format_of(self.path) == "csv" else part_name(self.file, self.number)


def part_name(file: int, number: int) -> str:
    """What the files of a part are called; names sort as the parts do."""
    return f"part-{file:06d}-{number:06d}"


def digest(paths: Iterable[Path], stop: threading.Event | None = None) -> str:
    """SHA-256 of the files' SHA-256s, in order: the same input has the same digest anywhere.

    Of no use once ``stop`` is set: then it returns early.
    """
    total = hashlib.sha256()
    for path in paths:
        each = hashlib.sha256()
        with path.open("rb") as file:
            while (block := file.read(HASHED_BYTES)) and not (stop and stop.is_set()):
                each.update(block)
        total.update(each.digest())
    return total.hexdigest()


def head(path: Path, count: int) -> list[dict]:
    """The first rows of a file or of a folder of files."""
    first = data_files(path)[0]
    if format_of(first) == "parquet":
        opened = pq.ParquetFile(first, **STREAMED).iter_batches(count)
    else:
        opened = csv_batches(first, csv_columns(first))
    batch = next(iter(opened), None)
    return batch.slice(0, count).to_pylist() if batch else []


def row_count(paths: list[Path]) -> int | None:
    """How many rows there are, where that is known without reading them."""
    if not paths or any(format_of(path) != "parquet" for path in paths):
        return None
    return sum(pq.read_metadata(path).num_rows for path in paths)


def cut(
    uri: str, paths: list[Path], columns: list[str], rows: int, window: Window | None = None
) -> Iterator[Part]:
    """The parts of an input, of about ``rows`` rows each, the same at every call.

    Parquet is read only when a part's batches are asked for; csv and SQL are read here, in order.
    """
    for section in outline(paths, rows):
        yield from read(section, columns, rows)
    if not paths:
        grouped = _grouped(_sql_rows(uri, columns, window), rows)
        for number, (start, batches) in enumerate(grouped):
            yield Part(0, number, identity(uri), start, batches)


def outline(paths: list[Path], rows: int) -> Iterator[Section]:
    """The sections of files, which ``read`` cuts to parts of about ``rows`` rows each."""
    for file, path in enumerate(paths):
        if format_of(path) == "csv":
            yield Section(file, path, str(path))
            continue
        for number, (start, groups) in enumerate(_row_groups(path, rows)):
            yield Section(file, path, str(path), number, start, groups)


def read(section: Section, columns: list[str], rows: int) -> Iterator[Part]:
    """The parts of a section."""
    path = section.path
    if format_of(path) == "csv":
        with readable(path):
            grouped = _grouped(csv_batches(path, columns), rows)
            for number, (start, batches) in enumerate(grouped):
                yield Part(section.file, number, section.source, start, batches)
        return

    def batches() -> Iterator[pa.RecordBatch]:
        if format_of(path) != "parquet":
            yield from _stored(path)
            return
        with readable(path), pq.ParquetFile(path, **STREAMED) as file:
            options = {"row_groups": section.groups, "columns": columns, "use_threads": False}
            yield from map(plain, file.iter_batches(min(rows, BATCH_ROWS), **options))

    yield Part(section.file, section.number, section.source, section.start, batches)


def _row_groups(path: Path, rows: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """First row and row groups of each part."""
    with readable(path):
        metadata = pq.read_metadata(path)
    start, count, groups = 0, 0, []
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        if groups and count + size > rows:
            yield start, tuple(groups)
            start, count, groups = start + count, 0, []
        groups, count = [*groups, group], count + size
    if groups:
        yield start, tuple(groups)


def store(part: Part, folder: Path) -> Section:
    """Keep the rows of a part in a file, batch by batch as they are, for another process."""
    path = folder / f"{part.name}.arrows"
    with path.open("wb") as file:
        for batch in part.batches():
            # Batches of a query may differ in their types, and so each is a stream of its own.
            with pa.ipc.new_stream(file, batch.schema) as stream:
                stream.write_batch(batch)
    return Section(part.file, path, part.source, part.number, part.start)


def _stored(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        while file.peek(1):
            yield from pa.ipc.open_stream(file)


def _grouped(batches: Iterable[pa.RecordBatch], rows: int):
    """Batches of any size gathered, and cut, to parts of exactly ``rows`` rows (the last fewer)."""
    start, count, group = 0, 0, []
    for batch in batches:
        while batch.num_rows:
            taken = batch.slice(0, rows - count)
            group, count, batch = [*group, taken], count + len(taken), batch.slice(len(taken))
            if count == rows:
                yield start, lambda group=group: iter(group)
                start, count, group = start + count, 0, []
    if group:
        yield start, lambda group=group: iter(group)


def _sql_rows(uri: str, columns: list[str], window: Window | None):
    from sqlalchemy import column

    query = selection(uri, columns, columns)
    if window:
        query = query.where(column(window.column) <= window.until)
        if window.after is not None:
            query = query.where(column(window.column) > window.after)
    return sql_batches(uri, query)


def sql_maximum(uri: str, column: str) -> Any:
    """The largest value of a column, None in an empty table."""
    from sqlalchemy import column as named
    from sqlalchemy import func, select

    with connect(uri) as connection:
        return connection.scalar(select(func.max(named(column))).select_from(sql_source(uri)))


@contextmanager
def writer(path: Path, schema: pa.Schema):
    """A parquet or csv file, written batch by batch.

    Parquet keeps text as a dictionary, whole numbers and times as differences, and floats, which
    gain from neither, as they are.
    """
    if format_of(path) == "csv":
        with csv.CSVWriter(path, schema) as opened:
            yield opened
        return
    texts = [f.name for f in schema if f.type in (pa.string(), REPEATED)]
    steps = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_temporal(f.type)]
    with pq.ParquetWriter(
        path,
        schema,
        use_dictionary=texts,
        column_encoding=dict.fromkeys(steps, "DELTA_BINARY_PACKED"),
        # The smallest and largest of a repeated text tell nobody anything, and take time to find.
        write_statistics=[f.name for f in schema if f.type != REPEATED],
        store_schema=False,
    ) as opened:
        yield opened


def merge(found: list[Path], target: Path, schema: pa.Schema) -> None:
    """One file of many of the same format, in their order, in bounded memory."""
    if len(found) == 1:
        shutil.copyfile(found[0], target)
        return
    if format_of(target) == "csv":
        with target.open("wb") as out:
            for number, path in enumerate(found):
                with path.open("rb") as part:
                    if number:
                        part.readline()
                    shutil.copyfileobj(part, out)
        return
    repeated = [field.name for field in schema if field.type == REPEATED]
    with writer(target, schema) as out:
        for path in found:
            with pq.ParquetFile(path, read_dictionary=repeated, **STREAMED) as part:
                for batch in part.iter_batches(BATCH_ROWS):
                    out.write_batch(batch)
