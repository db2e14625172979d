"""Validate and encode Arrow tables and batches under a contract.

Whole tables and the batch job's parts are checked here. JSON requests are checked without Arrow,
by the same ``Column.judge``.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import ProjectError
from .columns import DATE, Column, Violations, found

TYPES = {
    "float": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "date": pa.date32(),
    "text": pa.string(),
}
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
TEXTS = (pa.types.is_string, pa.types.is_large_string)
# The Arrow types that a column can be read from, besides text and null.
SOURCES: dict[str, tuple[Callable, ...]] = {
    "float": NUMBERS,
    "integer": NUMBERS,
    # pandas stores 0 and 1 as floats if some values are missing.
    "boolean": (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating),
    "category": (*NUMBERS, pa.types.is_boolean),
    "date": (pa.types.is_date, pa.types.is_timestamp),
    "text": (*NUMBERS, pa.types.is_temporal, pa.types.is_boolean),
}
VIOLATIONS = pa.schema(
    [("row", pa.int64()), ("column", pa.string()), ("value", pa.string()), ("reason", pa.string())]
)


class Checked:
    """A batch after validation.

    ``matrix`` is float32 of shape (rows, columns), ``valid`` a boolean mask of shape (rows,),
    ``keys`` the rows' keys or None.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        self.valid = np.ones(len(matrix), bool)
        self.keys: pa.Array | None = None
        self._found: list[pa.Table] = []

    def reject(self, rows: np.ndarray, column: str, values: pa.Array, reason: str) -> None:
        """Mark rows as invalid; ``values`` are the values of ``column`` in all rows."""
        self.valid[rows] = False
        count = len(rows)
        columns = [pa.array(rows), [column] * count, shown(values, rows), [reason] * count]
        self._found.append(pa.table(columns, schema=VIOLATIONS))

    @property
    def violations(self) -> pa.Table:
        """One line per bad value, with the schema VIOLATIONS; row numbers are within the batch."""
        if not self._found:
            return VIOLATIONS.empty_table()
        order = [("row", "ascending"), ("column", "ascending")]
        return pa.concat_tables(self._found).sort_by(order)

    @property
    def told(self) -> str:
        """The violations as text: for each column and reason, the first row and how many more."""
        kinds = []
        for rows in self._found:
            first = rows.slice(0, 1).to_pylist()[0]
            shown = "" if first["value"] is None else f"{first['value']} "
            more = f" (and {rows.num_rows - 1:,} more)" if rows.num_rows > 1 else ""
            where = f"row {first['row']}, column {first['column']}"
            kinds.append(f"{where}: {shown}{first['reason']}{more}")
        return "; ".join(kinds)


def shown(values: pa.Array, rows: np.ndarray) -> pa.Array:
    """The values of some rows as text, for any type."""
    try:
        return values.take(pa.array(rows)).cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([repr(values[row].as_py()) for row in rows.tolist()])


def check(contract, batch: pa.RecordBatch) -> Checked:
    """Validate and encode a batch in one pass over its columns."""
    checked = Checked(np.empty((batch.num_rows, len(contract.columns)), np.float32))
    for index, column in enumerate(contract.columns):
        values = batch.column(column.name)
        codes, violations = encode(column, values)
        with np.errstate(over="ignore"):
            checked.matrix[:, index] = codes
        for rows, reason in violations:
            checked.reject(rows, column.name, values, reason)
    if contract.key and contract.key.name in batch.schema.names:
        checked.keys = _check_keys(contract.key, batch.column(contract.key.name), checked)
    return checked


def _check_keys(key: Column, values: pa.Array, checked: Checked) -> pa.Array:
    keys, _ = read(key, values, arrow_type(key))
    for rows, reason in found(mask(keys.is_null()), f"is missing or not of type {key.type}"):
        checked.reject(rows, key.name, values, reason)
    return keys


def arrow_type(column: Column) -> pa.DataType:
    """The type of the column's values in a table."""
    return pa.int64() if column.numbered else TYPES[column.type]


def encode(column: Column, values: pa.Array) -> tuple[np.ndarray, Violations]:
    """The numeric form of ``values``, float64 of shape (rows,), and what breaks the contract."""
    codes, unreadable = _codes(column, values)
    low, high = column.bounds
    whole = column.type not in ("integer", "boolean") or any(
        fits(values.type) for fits in (pa.types.is_integer, pa.types.is_boolean)
    )
    # NaN fails this comparison; if it holds, no value is missing, unreadable or out of range.
    if whole and len(codes) and codes.min() >= low and codes.max() <= high:
        return codes, []
    return codes, column.judge(codes, unreadable)


def _codes(column: Column, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The numeric form, NaN for missing and unreadable values, and a mask of the unreadable."""
    if column.type != "category":
        # Read as floats, so that 5.5 in an integer or 2 in a boolean is refused, not converted.
        number = column.type == "integer" or (
            column.type != "date" and any(fits(values.type) for fits in NUMBERS)
        )
        kind = pa.float64() if number else arrow_type(column)
        typed, unreadable = read(column, values, kind)
        return _floats(typed), unreadable
    kind = pa.float64() if column.numbered else pa.string()
    typed, unreadable = read(column, values, kind)
    typed = pc.add(typed, 0.0) if column.numbered else typed  # -0.0 is 0.0
    codes = _floats(pc.index_in(typed, value_set=pa.array(column.allowed).cast(kind)))
    return codes, unreadable | (np.isnan(codes) & ~mask(typed.is_null(nan_is_null=True)))


def read(column: Column, values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, np.ndarray]:
    """``values`` as ``kind``, null if missing or unreadable, and a mask of the unreadable ones.

    An unreadable value does not affect the others.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.type == kind and kind == pa.float64():
        return values, np.False_
    sources = NUMBERS if column.numbered else SOURCES[column.type]
    if is_text(values.type):
        trimmed = pc.utf8_trim_whitespace(values)
        values = values if column.type == "text" else trimmed
        values = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, values.type), values)
        if kind == pa.date32():
            values = pc.replace_substring_regex(values, f"^{DATE}$", r"\1")
        if kind == pa.bool_():  # pandas writes 1 as 1.0 if values are missing
            values = pc.replace_substring_regex(values, r"^([01])\.0$", r"\1")
        if kind == pa.int64():  # the same; Arrow would also read 0x10
            values = pc.replace_substring_regex(values, r"^(?:\+|(-))?([0-9]+)(\.0*)?$", r"\1\2")
            values = pc.replace_substring_regex(values, r"^(.*[xX].*)$", "no number")
    elif not any(fits(values.type) for fits in (pa.types.is_null, *sources)):
        return pa.nulls(len(values), kind), mask(values.is_valid())
    if kind == pa.string() and pa.types.is_floating(values.type):
        values = _texts(without_nan(values))
    try:
        # A date loses its time of day, a float may be rounded; others must convert without loss.
        return values.cast(kind, safe=column.type not in ("date", "float")), np.False_
    except pa.ArrowInvalid:
        typed = pa.array([_cast(value, kind) for value in values], kind)
        return typed, mask(pc.and_(typed.is_null(), values.is_valid()))


def is_text(kind: pa.DataType) -> bool:
    return any(fits(kind) for fits in TEXTS)


def typed(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """``values`` in the column's type, or None if one is unreadable.

    Dates and booleans stored as numbers are returned as they are.
    """
    number = any(fits(values.type) for fits in NUMBERS)
    if column.type == "date" or (column.type == "boolean" and number):
        return values
    kind, chunks = arrow_type(column), []
    for chunk in values.chunks:
        found, unreadable = read(column, chunk, kind)
        if unreadable.any():
            return None
        chunks.append(found)
    return pa.chunked_array(chunks, kind)


def _texts(floats: pa.Array) -> pa.Array:
    """Floats as text, whole numbers without exponent: pandas stores keys with gaps as floats."""
    floats = floats.cast(pa.float32()) if floats.type == pa.float16() else floats
    whole = pc.and_(pc.equal(pc.trunc(floats), floats), pc.less(pc.abs(floats), 2.0**53))
    numbers = pc.if_else(whole, floats, 0).cast(pa.int64()).cast(pa.string())
    return pc.if_else(whole, numbers, floats.cast(pa.string()))


def without_nan(values):
    """Replace NaN in floats by null, because the text "nan" would be a value; keep other types."""
    if not pa.types.is_floating(values.type):
        return values
    return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)


def _floats(values: pa.Array) -> np.ndarray:
    """float64 of shape (rows,), without a copy where Arrow allows; null becomes NaN."""
    if pa.types.is_date(values.type):
        values = values.cast(pa.int32())
    if values.type != pa.float64():
        values = values.cast(pa.float64())
    return values.to_numpy(zero_copy_only=False)


def mask(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False)


def _cast(value: pa.Scalar, kind: pa.DataType) -> Any:
    try:
        return value.cast(kind).as_py()
    except (pa.ArrowInvalid, OverflowError):  # Arrow knows years that Python does not
        return None


def as_batch(data: Any) -> pa.RecordBatch:
    """One Arrow batch from a table, a batch, a DataFrame or a mapping of column to values.

    :raises ProjectError: it is none of these, or its columns differ in length.
    """
    if isinstance(data, pa.RecordBatch):
        return data
    if not isinstance(data, pa.Table):
        try:
            columns = [(str(name), array(values)) for name, values in data.items()]
        except (AttributeError, TypeError):
            raise ProjectError("data: give a mapping of column to values, or a table.") from None
        if len({len(values) for _, values in columns}) > 1:
            sizes = ", ".join(f"{name} {len(values)}" for name, values in columns)
            raise ProjectError(f"data: the columns differ in length: {sizes}.")
        data = pa.table([values for _, values in columns], [name for name, _ in columns])
    batches = data.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], data.schema)


def array(values: Iterable) -> pa.Array:
    """An Arrow array of Python values; UUIDs and mixed types become text, which is then judged."""
    with suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        found = pa.array(values, from_pandas=True)
        if isinstance(values, list) and pa.types.is_timestamp(found.type) and found.type.tz:
            # Arrow converts all to the first value's time zone; keep each value's own day.
            found = pa.array([value and value.replace(tzinfo=None) for value in values])
        if not isinstance(found.type, pa.BaseExtensionType):
            return found
    return pa.array([None if value is None else str(value) for value in values], pa.string())
