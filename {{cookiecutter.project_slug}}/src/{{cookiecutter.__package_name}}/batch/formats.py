"""Files of predictions and of rejected rows: written batch by batch, and put together."""

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
# Text that is the same in many rows, kept once; readers of a file see plain text.
REPEATED = pa.dictionary(pa.int32(), pa.string())


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


def merge_parquet(parts: Iterable[Path], target: Path, schema: pa.Schema) -> None:
    """One file of many, in their order, in bounded memory."""
    repeated = [field.name for field in schema if field.type == REPEATED]
    with writer(target, schema) as out:
        for path in parts:
            with pq.ParquetFile(path, read_dictionary=repeated, pre_buffer=False) as part:
                for batch in part.iter_batches(BATCH_ROWS):
                    out.write_batch(batch)


def merge_csv(parts: Iterable[BinaryIO], target: Path) -> None:
    """The same of csv files, whose headers are one line and alike."""
    with target.open("wb") as out:
        for number, opened in enumerate(parts):
            with opened as part:
                if number:
                    part.readline()
                copyfileobj(part, out)


def head(file: File, count: int) -> list[dict]:
    """The first rows of a file as they stand there."""
    if format_of(file) == "parquet":
        with here(file) as copy, parquet(copy) as opened:
            batch = next(opened.iter_batches(count), None)
            return batch.to_pylist() if batch else []
    with file.open("rb") as opened:
        rows = python_csv.DictReader(io.TextIOWrapper(opened, "utf-8", newline=""))
        return [row for _, row in zip(range(count), rows, strict=False)]
