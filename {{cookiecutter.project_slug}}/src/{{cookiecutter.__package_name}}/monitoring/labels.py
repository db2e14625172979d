"""The command ``labels import``: take in what really happened, as it becomes known.

Labels come late, in parts, corrected and more than once: importing the same table again changes
nothing, a newer label of a row replaces the older one, and a row without a label is left for later.
"""

import argparse
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from .. import settings
from ..contract import CONTRACT
from ..errors import ProjectError
from ..schema.arrow import encode, mask, shown
from ..tables.databases import of_files, redacted, sqlite_file
from ..tables.files import files
from ..tables.reader import column_names, table_batches
from .predictions import ids, sources
from .records import database, labels

# Rows of one statement.
CHUNK_ROWS = 1_000
SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["import"], help="take in the labels of a table")
    parser.add_argument(
        "uri",
        nargs="?",
        metavar="URI",
        help="parquet or csv file, folder of them, or SQLAlchemy URL#TABLE; default: "
        "monitoring.labels",
    )


def run(arguments: argparse.Namespace) -> int:
    config = settings.load()
    given = arguments.uri or config.monitoring.labels
    if not given:
        raise ProjectError("name a table of labels, here or in monitoring.labels.")
    uri = settings.absolute(given, Path.cwd() if arguments.uri else settings.root())
    columns, imported = _columns(uri), [pa.array([], pa.string())]
    counts, now = Counter(), datetime.now(UTC)
    batches = table_batches(uri, [*columns, CONTRACT.target.name])
    if sqlite_file(uri) == sqlite_file(config.database):
        batches = [*batches]  # a reader of the same file would keep the writer waiting
    for batch in batches:
        found = [*_read(batch, columns, counts).items()]
        with database(config.database) as connection:
            for first in range(0, len(found), CHUNK_ROWS):
                _save(connection, dict(found[first : first + CHUNK_ROWS]), now, counts)
        imported.append(pa.array([each for each, _ in found], pa.string()))
    unmatched = pa.concat_arrays(imported).unique()
    for source in sources(config):
        unmatched = source.unmatched(unmatched)
    _report(counts, unmatched.to_pylist())
    return 0


def _columns(uri: str) -> list[str]:
    """The columns that say which prediction a label is for: the key, or its place.

    :raises ProjectError: one of them, or the target, is missing.
    """
    key, found = CONTRACT.key, column_names(uri, files(uri) if of_files(uri) else [])
    for where, names in found.items():
        place = ["request_id"] if "request_id" in names else ["run_id", "source"]
        columns = [key.name] if key else [*place, "row"]
        missing = [name for name in (*columns, CONTRACT.target.name) if name not in names]
        if missing:
            hint = "" if key else "; without a key in contract.py, labels are for single rows"
            raise ProjectError(f"{redacted(where)}: column {', '.join(missing)} is missing{hint}.")
    return columns


def _read(batch: pa.RecordBatch, columns: list[str], counts: Counter) -> dict[str, object]:
    """The labels of a batch by id, the last one of each; what breaks the contract is counted."""
    values = batch.column(CONTRACT.target.name)
    rows = ids(batch, columns)
    codes, violations = encode(CONTRACT.target, values)
    wrong = np.zeros(batch.num_rows, bool)
    for places, reason in violations:
        if reason != "is missing":
            wrong[places] = True
            counts["wrong", f"{shown(values, places[:1])[0]} {reason}"] += len(places)
    unlabelled, without_id = np.isnan(codes) & ~wrong, mask(rows.is_null())
    good = ~wrong & ~unlabelled & ~without_id
    counts["read"] += batch.num_rows
    counts["unlabelled"] += int(unlabelled.sum())
    counts["without id"] += int(without_id.sum())
    known = rows.filter(pa.array(good)).to_pylist()
    counts["repeated"] += len(known) - len(set(known))
    return dict(zip(known, map(str, CONTRACT.target.decode(codes[good]).tolist()), strict=True))


def _save(connection: sa.Connection, found: dict, now: datetime, counts: Counter) -> None:
    """Insert new labels, and update those that are corrected."""
    query = sa.select(labels.c.id, labels.c.label).where(labels.c.id.in_(list(found)))
    known = {row.id: row.label for row in connection.execute(query)}
    changed = {each: label for each, label in found.items() if known.get(each) != label}
    counts["new"] += len(found.keys() - known.keys())
    counts["corrected"] += len(changed.keys() & known.keys())
    if not changed:
        return
    of_dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = of_dialect.insert(labels)
    new = {"label": insert.excluded.label, "imported_at": insert.excluded.imported_at}
    rows = [{"id": each, "label": label, "imported_at": now} for each, label in changed.items()]
    connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=new), rows)


def _report(counts: Counter, unmatched: list[str]) -> None:
    print(
        f"{counts['read']:,} rows read: {counts['new']:,} new labels, "
        f"{counts['corrected']:,} corrected, {counts['unlabelled']:,} rows have none yet."
    )
    if counts["repeated"]:
        print(f"{counts['repeated']:,} rows repeat another one: the last label of each counts.")
    if counts["without id"]:
        print(f"{counts['without id']:,} rows do not say which prediction they are for.")
    for what, count in counts.items():
        if isinstance(what, tuple):
            print(f"{count:,} labels break the contract: {what[1]}.")
    if unmatched:
        more = f" and {len(unmatched) - SHOWN:,} more" if len(unmatched) > SHOWN else ""
        print(f"No prediction is for {', '.join(unmatched[:SHOWN])}{more}.")
