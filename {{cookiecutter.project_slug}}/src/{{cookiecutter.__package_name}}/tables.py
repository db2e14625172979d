"""Whole tables by URI, for training data.

A URI is a path (or ``file:`` URI) of a parquet or csv file or of a folder of such files, or a
SQLAlchemy URL with the table or the query behind ``#``: ``sqlite:///shop.db#flowers``,
``postgresql://host/db#SELECT * FROM flowers WHERE day = CURRENT_DATE``.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from .arrow import array, arrow_type
from .contract import CONTRACT
from .databases import connect, local_path, redacted
from .errors import ProjectError
from .settings import absolute, root

SQL_FETCH_ROWS = 10_000
# Of a csv file: what stands for a missing value.
MISSING = ["", "NaN", "null"]


def _read_csv(path: Path) -> pa.Table:
    """Texts of the contract stay texts, such as the code 01; the others are what they look like."""
    columns = (*CONTRACT.inputs, CONTRACT.target)
    texts = [each.name for each in columns if arrow_type(each) == pa.string()]
    kinds = dict.fromkeys(texts, pa.string())
    convert = csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=MISSING)
    return csv.read_csv(path, convert_options=convert)


READERS = {".parquet": pq.read_table, ".csv": _read_csv}


def read(uri: str) -> pa.Table:
    """A whole table in memory; a relative path starts at the project."""
    uri = absolute(uri, root())
    if local_path(uri) is None:
        names = sql_columns(uri)
        batches = sql_batches(uri, selection(uri, names))
        tables = [pa.table({name: pa.nulls(0) for name in names})]
        tables += [pa.Table.from_batches([batch]) for batch in batches]
    else:
        tables = [READERS[path.suffix](path) for path in files(uri)]
    return pa.concat_tables(tables, promote_options="permissive")


def files(uri: str) -> list[Path]:
    """The parquet and csv files of a URI in the order they are read; hidden ones are left out."""
    path = local_path(uri)
    if path is None:
        return []
    found = data_files(path)
    if not found:
        what = "holds no parquet or csv file" if path.exists() else "does not exist"
        raise ProjectError(f"{path} {what}; give a .parquet or .csv file or a folder of them.")
    return found


def data_files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    return [
        each
        for each in found
        if each.suffix in READERS
        and each.is_file()
        and not any(name[0] in "._" for name in each.relative_to(path).parts)
    ]


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
