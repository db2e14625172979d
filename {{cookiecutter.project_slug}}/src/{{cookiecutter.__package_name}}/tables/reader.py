"""Whole tables by URI, for training data.

A URI is a path (or ``file:`` URI) of a parquet, csv or csv.gz file or of a folder of such files, or
a SQLAlchemy URL with the table or the query behind ``#``: ``sqlite:///shop.db#flowers``,
``postgresql+pg8000://host/db#SELECT * FROM flowers WHERE day = CURRENT_DATE``.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from ..errors import ProjectError, brief
from ..schema import Contract
from ..schema.arrow import array, arrow_type
from ..settings import absolute, root
from .databases import connect, local_path, redacted

SQL_FETCH_ROWS = 10_000
# Of a csv file: what stands for a missing value.
MISSING = ["", "NaN", "null"]
FORMATS = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv"}
# SQLite's files are named by URL, never read as part of a folder; data/predictions holds some.
DATABASE = re.compile(r"\.db(-journal|-wal|-shm)?$")
WANTED = f"give a file that ends in {', '.join(FORMATS)}, or a folder of them"


def _read_csv(path: Path, contract: Contract) -> pa.Table:
    """Texts and dates of the contract stay texts, such as the code 01, and mean what they mean to
    the batch job; the others are what they look like."""
    columns = (*contract.inputs, contract.target)
    texts = [each.name for each in columns if arrow_type(each) in (pa.string(), pa.date32())]
    kinds = dict.fromkeys(texts, pa.string())
    convert = csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=MISSING)
    with csv_text(path) as file:
        return csv.read_csv(file, convert_options=convert)


def read(uri: str, contract: Contract) -> pa.Table:
    """A whole table in memory, more columns than the contract's included.

    A relative path starts at the project. What is text in a csv file, the contract says."""
    uri = absolute(uri, root())
    if local_path(uri) is None:
        names = sql_columns(uri)
        batches = sql_batches(uri, selection(uri, names))
        tables = [pa.table({name: pa.nulls(0) for name in names})]
        tables += [pa.Table.from_batches([batch]) for batch in batches]
    else:
        tables = []
        for path in files(uri):
            with readable(path):
                parquet = format_of(path) == "parquet"
                tables.append(pq.read_table(path) if parquet else _read_csv(path, contract))
    return pa.concat_tables(tables, promote_options="permissive")


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


@contextmanager
def readable(path: Path):
    """What Arrow says of a file it cannot read, as a sentence about that file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None):
            raise  # the system's own, which may be another one the next time
        raise ProjectError(f"{path} cannot be read as {format_of(path)}: {brief(error)}.") from None


def format_of(path: Path) -> str | None:
    """``parquet`` or ``csv``, by the end of the name; None for any other file."""
    name = path.name.lower()
    return next((each for end, each in FORMATS.items() if name.endswith(end)), None)


def csv_text(path: Path) -> pa.NativeFile:
    """The text of a csv file, unpacked if its name ends in .gz."""
    return pa.input_stream(path, compression="gzip" if path.suffix.lower() == ".gz" else None)


def sql_columns(uri: str) -> list[str]:
    """The names of a table's or query's columns."""
    from sqlalchemy import literal_column, select

    with connect(uri) as connection:
        query = select(literal_column("*")).select_from(sql_source(uri)).limit(0)
        return list(connection.execute(query).keys())


def sql_source(uri: str):
    """The table, or the query as a subquery, behind the ``#`` of a URI."""
    from sqlalchemy import table, text

    what = uri.partition("#")[2].strip().rstrip(";")
    if not what:
        raise ProjectError(f"{redacted(uri)}: name a table or a query behind a #.")
    if len(what.split()) > 1:
        return text("({}) AS input".format(what.replace(":", "\\:")))
    schema, _, name = what.rpartition(".")
    return table(name, schema=schema or None)


def selection(uri: str, columns: list[str]):
    """A query for some columns, sorted by all of them: the same order at every call."""
    from sqlalchemy import column, select

    named = [column(name) for name in columns]
    return select(*named).select_from(sql_source(uri)).order_by(*named)


def sql_batches(uri: str, query):
    """The rows of a query in record batches of bounded size."""
    with connect(uri) as connection:
        rows = connection.execution_options(yield_per=SQL_FETCH_ROWS).execute(query)
        names = list(rows.keys())
        for block in rows.partitions():
            values = [array(list(each)) for each in zip(*block, strict=True)]
            yield pa.RecordBatch.from_arrays(values, names)
