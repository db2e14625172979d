"""The tables of kept predictions, and how a line of the spool becomes rows of them."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ..contract import CONTRACT
from ..errors import ProjectError
from ..tables.migrate import target_type
from .spool import Record

metadata = sa.MetaData()
predictions = sa.Table(
    "kept_predictions",
    metadata,
    # SQLite numbers its rows only in a column of this very type.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("request_id", sa.String(64), nullable=False),
    # Counted from 0 within the request.
    sa.Column("row", sa.Integer, nullable=False),
    # UTC, also in SQLite, which has no time zones.
    sa.Column("predicted_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("client", sa.String(261), nullable=False),
    sa.Column("model", sa.String(100), nullable=False),
    sa.Column("model_version", sa.String(64), nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("prediction", target_type(CONTRACT.target)),
    sa.Column("probability", sa.Double),
    sa.Index("ix_predictions_request_id", "request_id"),
    sa.Index("ix_predictions_predicted_at", "predicted_at"),
    sa.Index("ix_predictions_model_version", "model_version", "predicted_at"),
)
kept_segments = sa.Table(
    "kept_segments", metadata, sa.Column("name", sa.String(64), primary_key=True)
)


RECORDS = msgspec.json.Decoder(Record)


def rows(segment: Path, counts: dict[str, int]) -> Iterator[dict]:
    """The rows of a segment for ``kept_predictions``; a line that cannot be read is counted.

    A kill in the middle of a write leaves such a line; it was not answered.
    """
    with segment.open("rb") as lines:
        for line in lines:
            try:
                record = read(line)
            except ValueError:
                counts["damaged"] += 1
            else:
                yield from rows_of(record)


def read(line: bytes) -> Record:
    """:raises ValueError: it is no whole record."""
    record = RECORDS.decode(line)
    columns = [*record.inputs.values(), record.predictions]
    if record.probabilities is not None:
        columns.append(record.probabilities)
    if not record.inputs or len({len(values) for values in columns}) > 1:
        raise ValueError("the columns differ in length")
    if CONTRACT.target.type == "date":
        record.predictions = [
            None if day is None else date.fromisoformat(str(day)) for day in record.predictions
        ]
    return record


def rows_of(record: Record) -> Iterator[dict]:
    common = {
        "request_id": name(record.request_id, 64),
        "predicted_at": datetime.fromtimestamp(record.time, UTC),
        "client": name(record.client, 261),
        "model": name(record.model, 100),
        "model_version": name(record.version, 64),
    }
    probabilities = record.probabilities or [None] * len(record.predictions)
    inputs = zip(*record.inputs.values(), strict=True)
    answers = zip(inputs, record.predictions, probabilities, strict=True)
    for row, (values, prediction, probability) in enumerate(answers):
        yield {
            **common,
            "row": row,
            "inputs": dict(zip(record.inputs, values, strict=True)),
            "prediction": prediction,
            "probability": probability,
        }


def name(text: str, longest: int) -> str:
    """A name as every database takes it: a strange one must not cost its whole segment."""
    return text[:longest].replace("\0", "\N{REPLACEMENT CHARACTER}")


def insert(connection: sa.Connection, rows: list[dict]) -> None:
    if connection.dialect.name == "postgresql":
        # As one text; as parameters they would take ten times as long to send. The inputs are a
        # text within it, or PostgreSQL would look into them and refuse what JSON allows: \u0000.
        texts = [{**row, "inputs": msgspec.json.encode(row["inputs"]).decode()} for row in rows]
        connection.execute(from_json(), {"rows": msgspec.json.encode(texts).decode()})
    else:
        connection.execute(sa.insert(predictions), rows)


@cache
def from_json() -> sa.Insert:
    """INSERT INTO kept_predictions SELECT … FROM json_to_recordset(:rows), for PostgreSQL."""
    columns = [column for column in predictions.columns if column.name != "id"]
    types = {column.name: column.type for column in columns} | {"inputs": sa.Text()}
    rows = sa.func.json_to_recordset(sa.cast(sa.bindparam("rows", type_=sa.Text), sa.JSON))
    rows = rows.table_valued(*[sa.column(*typed) for typed in types.items()], name="rows")
    rows = rows.render_derived(with_types=True)
    # The text is parsed, not written once more as JSON.
    values = [sa.cast(each, sa.JSON) if each.name == "inputs" else each for each in rows.columns]
    return sa.insert(predictions).from_select(list(types), sa.select(*values))


def claim(connection: sa.Connection, name: str) -> bool:
    """Take a segment's name into the transaction; False where it was delivered before.

    :raises ProjectError: another process is just delivering it.
    """
    same = sa.select(kept_segments.c.name).where(kept_segments.c.name == name)
    if connection.scalar(same) is not None:
        return False
    with suppress(IntegrityError):
        connection.execute(sa.insert(kept_segments), {"name": name})
        return True
    raise ProjectError(f"segment {name} is being delivered by another process.")
