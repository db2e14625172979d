"""Read tables by URI; training and scoring read the same text as the same value.

A URI is a path (or ``file:`` URI) of a parquet, csv or csv.gz file or of a folder of such files;
the same in the cloud, ``s3://bucket/customers``, ``gs://…`` or ``abfs://…``; or a SQLAlchemy URL
with the table or the query after ``#``: ``sqlite:///shop.db#customers``,
``postgresql+pg8000://user@host/db#SELECT * FROM customers WHERE day = CURRENT_DATE``.
"""

import csv as python_csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from ..errors import ProjectError
from ..schema import Column, Contract
from ..schema.arrow import array, typed, without_nan
from ..settings import absolute, root
from .databases import connect, of_files, redacted
from .files import File, csv_text, files, format_of, here, parquet, readable

SQL_FETCH_ROWS = 10_000
LARGEST_CELL = 1 << 30
CSV_BLOCK_BYTES = 1 << 20
BLOCKS = csv.ReadOptions(block_size=CSV_BLOCK_BYTES)
# For csv files: the texts of a missing value, and line ends allowed in quoted cells.
MISSING = ["", "NaN", "null"]
PARSE = csv.ParseOptions(newlines_in_values=True)


def read(uri: str, contract: Contract, texts: bool = False) -> pa.Table:
    """Read a whole table into memory, including columns that the contract does not have.

    A column of the contract gets the contract's type if all its values can be read in it. Otherwise
    it keeps the type it was read in (text from csv), and validation judges it. Dates keep their
    type. Other columns are left out if their name is empty or repeated, or if their types do not
    mix. A relative path starts at the project's folder.

    :param texts: whether other columns of csv files are text; a guessed type may differ by file.
    :raises ProjectError: a file lacks a column of the contract that another one has.
    """
    uri = absolute(uri, root())
    known = {column.name: column for column in (*contract.inputs, contract.target)}
    found = dict(_tables(uri, known, texts))
    names = dict.fromkeys(name for table in found.values() for name in table.column_names)
    for where, table in found.items():
        if lacking := [name for name in known if name in names and name not in table.column_names]:
            raise ProjectError(f"{where}: column {', '.join(lacking)} is missing.")
    columns = {name: merged(name, [*found.values()], known.get(name)) for name in names}
    if mixed := [name for name in known if name in columns and columns[name] is None]:
        raise ProjectError(
            f"{redacted(uri)}: column {', '.join(mixed)} is of types that do not mix."
        )
    return pa.table({name: column for name, column in columns.items() if column is not None})


def read_frame(uri: str, contract: Contract):
    """Read a table as a DataFrame for data.py; csv columns outside the contract are text.

    pandas converts whole numbers with gaps to floats. The key is kept as integers, because it may
    be larger than a float holds exactly.
    """
    table = read(uri, contract, texts=True)
    frame = table.to_pandas()
    if contract.key and (name := contract.key.name) in table.column_names:
        frame[name] = table[name].to_pandas(integer_object_nulls=True)
    return frame


def _tables(uri: str, known: dict[str, Column], texts: bool) -> Iterator[tuple[str, pa.Table]]:
    """A table for every file, or for every block of a query, and where it is from."""
    if not of_files(uri):
        names, where = sql_columns(uri), redacted(uri)
        empty = pa.table([pa.nulls(0)] * len(names), names)
        yield where, _named_once(empty, known, where)
        query = selection(uri, names, [name for name in names if name in known])
        for number, batch in enumerate(sql_batches(uri, query)):
            yield f"{where}, block {number}", pa.Table.from_batches([batch])
    for path in files(uri):
        with readable(path), here(path) as copy:
            table = _named_once(_whole(copy, None if texts else [*known]), known, str(path))
        yield str(path), table


def table_batches(uri: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """All rows of a table in batches of bounded size; csv cells are text.

    :param columns: those to read; all of them if None.
    """
    if not of_files(uri):
        yield from sql_batches(uri, selection(uri, columns or sql_columns(uri), []))
    for path in files(uri):
        with readable(path), here(path) as copy:
            [found] = column_names(uri, [copy]).values()
            names = columns or [name for name in found if name]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ProjectError(f"{path}: column {', '.join(twice)} is there twice.")
            if format_of(path) == "csv":
                yield from csv_batches(copy, names)
                continue
            with parquet(copy) as file:
                yield from map(plain, file.iter_batches(SQL_FETCH_ROWS, columns=names))


def _whole(path: Path, texts: list[str] | None) -> pa.Table:
    if format_of(path) == "parquet":
        return plain(parquet(path).read())
    _refuse_lone_quotes(path)
    options = _as_text(csv_columns(path) if texts is None else texts)
    with csv_text(path) as file:
        return csv.read_csv(file, parse_options=PARSE, convert_options=options)


def _named_once(table: pa.Table, known: dict[str, Column], where: str) -> pa.Table:
    names = table.column_names
    if twice := [name for name in known if names.count(name) > 1]:
        raise ProjectError(f"{where}: column {', '.join(twice)} is there twice.")
    kept = [index for index, name in enumerate(names) if name and names.count(name) == 1]
    return table.select(kept)


def merged(name: str, tables: list[pa.Table], column: Column | None) -> pa.ChunkedArray | None:
    """One column of all tables: text if its types differ too much, None if that fails, too."""
    parts = [
        table[name] if name in table.column_names else pa.chunked_array([pa.nulls(len(table))])
        for table in tables
    ]
    if column:
        read_as = [typed(column, part) for part in parts]
        parts = parts if None in read_as else read_as
    try:
        each = [pa.table({name: part}) for part in parts]
        return pa.concat_tables(each, promote_options="permissive")[name]
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass
    try:
        texts = [without_nan(part).cast(pa.string()) for part in parts]
        return pa.chunked_array([chunk for part in texts for chunk in part.chunks], pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def plain(data):
    """Convert the string views of a parquet table or batch, as Arrow computes with strings only."""
    for index, field in enumerate(data.schema):
        if pa.types.is_string_view(field.type):
            data = data.set_column(index, field.name, data.column(index).cast(pa.string()))
    return data


def _as_text(columns: list[str], only: bool = False) -> csv.ConvertOptions:
    """Read these columns as text; the contract converts them, so a bad value affects one row."""
    return csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()),
        include_columns=columns if only else None,
        strings_can_be_null=True,
        null_values=MISSING,
    )


def csv_batches(path: File, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a csv file, with these columns as text."""
    with here(path) as copy:
        _refuse_lone_quotes(copy)
        yield from csv.open_csv(csv_text(copy), BLOCKS, PARSE, _as_text(columns, only=True))


def csv_columns(path: File) -> list[str]:
    with here(path) as copy:
        return csv.open_csv(csv_text(copy), BLOCKS, PARSE).schema.names


def _refuse_lone_quotes(path: Path) -> None:
    """Refuse a lone quotation mark: Arrow would read all following rows as one cell.

    The whole file is checked strictly only if a line ends within quotes.
    """
    if not _has_lines_in_quotes(path):
        return
    python_csv.field_size_limit(LARGEST_CELL)
    with csv_text(path) as file:
        rows = python_csv.reader(io.TextIOWrapper(file, "utf-8", newline=""), strict=True)
        try:
            for _ in rows:
                pass
        except python_csv.Error as error:
            where = f"a quotation mark stands alone, or a cell ends badly, by line {rows.line_num}"
            raise pa.ArrowInvalid(f"{where}: {error}") from None


def _has_lines_in_quotes(path: Path) -> bool:
    odd = np.uint8(0)
    with csv_text(path) as file:
        while content := file.read(CSV_BLOCK_BYTES):
            block = np.frombuffer(content, np.uint8)
            # Whether the number of quotation marks up to each byte is odd.
            odds = np.bitwise_xor.accumulate((block == ord('"')).view(np.uint8)) ^ odd
            if odds[block == ord("\n")].any():
                return True
            odd = odds[-1]
    return bool(odd)


def column_names(uri: str, paths: list[File]) -> dict[str, list[str]]:
    """The column names of every file, or of the table or query, by its name."""
    if not paths:
        return {redacted(uri): sql_columns(uri)}
    names = {}
    for path in paths:
        with readable(path):
            is_csv = format_of(path) == "csv"
            names[str(path)] = csv_columns(path) if is_csv else parquet(path).schema_arrow.names
    return names


def sql_columns(uri: str) -> list[str]:
    """The names of a table's or query's columns."""
    from sqlalchemy import literal_column, select

    with connect(uri) as connection:
        query = select(literal_column("*")).select_from(sql_source(uri)).limit(0)
        return list(connection.execute(query).keys())


def sql_source(uri: str):
    """The table, or the query as a subquery, after the ``#`` of a URI."""
    from sqlalchemy import table, text

    what = uri.partition("#")[2].strip().rstrip(";")
    if not what:
        raise ProjectError(f"{redacted(uri)}: name a table or a query behind a #.")
    if len(what.split()) > 1:
        return text("(\n{}\n) AS input".format(what.replace(":", "\\:")))
    schema, _, name = what.rpartition(".")
    return table(name, schema=schema or None)


def selection(uri: str, columns: list[str], by: list[str]):
    """A query for ``columns``, sorted by ``by`` so that the order is the same at every call."""
    from sqlalchemy import column, select

    named = [column(name) for name in columns]
    return select(*named).select_from(sql_source(uri)).order_by(*map(column, by))


def sql_batches(uri: str, query):
    """The rows of a query in record batches of bounded size."""
    with connect(uri) as connection:
        rows = connection.execution_options(yield_per=SQL_FETCH_ROWS).execute(query)
        names = list(rows.keys())
        for block in rows.partitions():
            values = [array(list(each)) for each in zip(*block, strict=True)]
            yield pa.RecordBatch.from_arrays(values, names)
