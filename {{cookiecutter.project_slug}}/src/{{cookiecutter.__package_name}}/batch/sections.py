"""An input is split into sections. Each section is scored as a unit and written as one part.

A section streams its rows in record batches, so that memory stays bounded for any length.
"""

import hashlib
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ..tables.databases import connect, identity
from ..tables.files import File, format_of, here, parquet, readable
from ..tables.reader import csv_batches, plain, selection, sql_batches, sql_source

HASHED_BYTES = 1 << 20
# Rows in a section of a query, where several processes share the work.
STORED_ROWS = 100_000


class Window(NamedTuple):
    """The rows of a table with ``after < column <= until``; ``after`` None means from the start."""

    column: str
    after: Any
    until: Any


@dataclass(frozen=True)
class Section:
    """Row groups of a parquet file, a whole csv file, a query, or a query's rows stored in a file.

    ``file`` numbers the input's files and ``number`` the sections of a file, both from 0. ``start``
    is the number of rows before it in ``source``. ``rows`` is None for a csv file and a query.
    """

    source: str
    file: int = 0
    number: int = 0
    start: int = 0
    rows: int | None = None
    path: File | None = None
    groups: tuple[int, ...] = ()
    uri: str = ""
    window: Window | None = None

    @property
    def name(self) -> str:
        """The stem of its files' names, which sort in the order of the sections."""
        return f"part-{self.file:06d}-{self.number:06d}"

    def batches(self, columns: list[str], most: int) -> Iterator[pa.RecordBatch]:
        """The given columns of its rows, in batches of at most ``most`` rows."""
        for batch in self._batches(columns, most):
            for start in range(0, batch.num_rows, most):
                yield batch.slice(start, most)

    def _batches(self, columns: list[str], most: int) -> Iterator[pa.RecordBatch]:
        if not self.path:
            yield from sql_batches(self.uri, _query(self.uri, columns, self.window))
        elif self.path.suffix == STORED:
            yield from _stored(self.path)
        elif format_of(self.path) == "csv":
            with readable(self.path):
                yield from csv_batches(self.path, columns)
        else:
            with readable(self.path), here(self.path) as copy, parquet(copy) as file:
                yield from map(plain, file.iter_batches(most, self.groups, columns, False))


STORED = ".arrows"


def sections(
    uri: str, paths: list[File], rows: int, window: Window | None = None
) -> Iterator[Section]:
    """Split an input into sections: local parquet files by about ``rows`` rows, others whole.

    :param paths: the input's files, empty for a database.
    """
    if not paths:
        yield Section(identity(uri), uri=uri, window=window)
    for file, path in enumerate(paths):
        whole = Section(str(path), file, path=path)
        if format_of(path) == "csv":
            yield whole
            continue
        most = rows if isinstance(path, Path) else sys.maxsize  # a cloud file is copied as a whole
        for number, (start, count, groups) in enumerate(_row_groups(path, most)):
            yield replace(whole, number=number, start=start, rows=count, groups=groups)


def _row_groups(path: File, rows: int) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """First row, number of rows and row groups of each section."""
    with readable(path), parquet(path) as file:
        metadata = file.metadata
    start, count, groups = 0, 0, []
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        if groups and count + size > rows:
            yield start, count, tuple(groups)
            start, count, groups = start + count, 0, []
        groups.append(group)
        count += size
    yield start, count, tuple(groups)


def store(section: Section, columns: list[str], folder) -> Iterator[Section]:
    """Store the rows of a query in files of a ``storage`` folder; yields one section per file."""
    batches = section.batches(columns, STORED_ROWS)
    number, start, batch = 0, 0, next(batches, None)
    while batch or not number:
        name, count = f"{section.name[:-6]}{number:06d}{STORED}", 0
        with folder.file(name) as path, path.open("wb") as file:
            while batch and count < STORED_ROWS:
                # Batches of a query may differ in their types, so each one is a separate stream.
                with pa.ipc.new_stream(file, batch.schema) as stream:
                    stream.write_batch(batch)
                count, batch = count + batch.num_rows, next(batches, None)
        # Without the URL of the database, which may contain a password.
        stored = {"number": number, "start": start, "rows": count, "path": folder.find(name)}
        yield replace(section, uri="", window=None, **stored)
        number, start = number + 1, start + count


def kept(batch: pa.RecordBatch, source: str, folder) -> Section:
    """Store rows in a file of a ``storage`` folder; returns them as a section."""
    name = f"prepared{STORED}"
    with folder.file(name) as path, pa.ipc.new_stream(path, batch.schema) as stream:
        stream.write_batch(batch)
    return Section(source, rows=batch.num_rows, path=folder.find(name))


def _stored(path: File) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        while file.peek(1):
            yield from pa.ipc.open_stream(file)


def row_count(found: list[Section]) -> int | None:
    """The number of rows, None if it is not known without reading them."""
    counts = [section.rows for section in found]
    return None if None in counts else sum(counts)


def digest(paths: Iterable[Path], stop: threading.Event | None = None) -> str:
    """SHA-256 of the files' SHA-256s, in order: the same input has the same digest anywhere.

    Once ``stop`` is set, it returns early and the result is meaningless.
    """
    total = hashlib.sha256()
    for path in paths:
        each = hashlib.sha256()
        with path.open("rb") as file:
            while (block := file.read(HASHED_BYTES)) and not (stop and stop.is_set()):
                each.update(block)
        total.update(each.digest())
    return total.hexdigest()


def _query(uri: str, columns: list[str], window: Window | None):
    from sqlalchemy import column

    query = selection(uri, columns, columns)
    if window:
        query = query.where(column(window.column) <= window.until)
        if window.after is not None:
            query = query.where(column(window.column) > window.after)
    return query


def sql_maximum(uri: str, column: str, after: Any = None) -> Any:
    """The largest value of a column after ``after``, in the database's order; None if none."""
    from sqlalchemy import column as named
    from sqlalchemy import func, select

    query = select(func.max(named(column))).select_from(sql_source(uri))
    if after is not None:
        query = query.where(named(column) > after)
    with connect(uri) as connection:
        return connection.scalar(query)
