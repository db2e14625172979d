"""Files of predictions and of rejected rows: written batch by batch, then merged."""

import csv as python_csv
import io
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from ..tables.files import File, format_of, here, parquet

BATCH_ROWS = 65_536
# Text that repeats in many rows, stored once in a dictionary; readers of a file see plain text.
REPEATED = pa.dictionary(pa.int32(), pa.string())


@contextmanager
def writer(path: Path, schema: pa.Schema):
    """Open a parquet or csv file that is written batch by batch.

    Parquet encodes text with a dictionary, and integers and times as differences. Floats gain from
    neither and stay plain.
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
        # The minimum and maximum of a repeated text are of no use, and take time to compute.
        write_statistics=[f.name for f in schema if f.type != REPEATED],
        store_schema=False,
    ) as opened:
        yield opened


def merge_parquet(parts: Iterable[Path], target: Path, schema: pa.Schema) -> None:
    """Merge files into one, in the given order, in bounded memory."""
    repeated = [field.name for field in schema if field.type == REPEATED]
    with writer(target, schema) as out:
        for path in parts:
            with pq.ParquetFile(path, read_dictionary=repeated, pre_buffer=False) as part:
                for batch in part.iter_batches(BATCH_ROWS):
                    out.write_batch(batch)


def merge_csv(parts: Iterable[BinaryIO], target: Path) -> None:
    """As ``merge_parquet`` for csv files, which all have the same header of one line."""
    with target.open("wb") as out:
        for number, opened in enumerate(parts):
            with opened as part:
                if number:
                    part.readline()
                copyfileobj(part, out)


def head(file: File, count: int) -> list[dict]:
    """The first ``count`` rows of a file; all values of a csv file are text."""
    if format_of(file) == "parquet":
        with here(file) as copy, parquet(copy) as opened:
            batch = next(opened.iter_batches(count), None)
            return batch.to_pylist() if batch else []
    with file.open("rb") as opened:
        rows = python_csv.DictReader(io.TextIOWrapper(opened, "utf-8", newline=""))
        return [row for _, row in zip(range(count), rows, strict=False)]
