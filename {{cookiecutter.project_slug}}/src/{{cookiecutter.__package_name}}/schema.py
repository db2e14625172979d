"""What a contract is made of: columns that check values and give them their numeric form.

Every column has one numeric form, given by the contract alone: a number is itself, a category
its index among the allowed values, a boolean 0 or 1, a date its days since 1970-01-01, a missing
value NaN. A batch of rows therefore becomes one float32 matrix, whatever the columns are.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import ProjectError

ARROW_TYPES = {
    "float": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "date": pa.date32(),
    "text": pa.string(),
}
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
TEXTS = (pa.types.is_string, pa.types.is_large_string)
# What a column may arrive as, besides text and null.
SOURCES: dict[str, tuple[Callable, ...]] = {
    "float": NUMBERS,
    "integer": NUMBERS,
    "boolean": (pa.types.is_boolean, pa.types.is_integer),
    "category": (*NUMBERS, pa.types.is_boolean),
    "date": (pa.types.is_date, pa.types.is_timestamp),
    "text": (*NUMBERS, pa.types.is_temporal, pa.types.is_boolean),
}
# float32 holds every whole number up to here; beyond it the model would see another number.
LARGEST_INTEGER = 2.0**24
LARGEST_FLOAT = float(np.finfo(np.float32).max)
VIOLATIONS = pa.schema(
    [("row", pa.int64()), ("column", pa.string()), ("value", pa.string()), ("reason", pa.string())]
)
Violations = list[tuple[np.ndarray, str]]


@dataclass(frozen=True)
class Column:
    """One column of a table: its name, type and the values it may take.

    ``minimum`` and ``maximum`` (both included) go with numbers and dates, ``allowed`` with
    categories. A missing value (null, NaN, an empty CSV cell) needs ``nullable=True``. ``text``
    has no numeric form and is for keys only.
    """

    name: str
    type: Literal["float", "integer", "boolean", "category", "date", "text"]
    description: str = ""
    unit: str = ""
    minimum: float | date | None = None
    maximum: float | date | None = None
    allowed: tuple[str | int, ...] = ()
    nullable: bool = False

    def __post_init__(self) -> None:
        if self.type not in ARROW_TYPES:
            known = ", ".join(ARROW_TYPES)
            raise ProjectError(f"contract: {self.name}: {self.type!r} is no type; use {known}.")
        if (self.type == "category") != bool(self.allowed):
            raise ProjectError(f"contract: {self.name}: allowed=(…) goes with a category.")
        kinds = {type(value) for value in self.allowed}
        if len(set(self.allowed)) < len(self.allowed) or not (kinds <= {int} or kinds <= {str}):
            raise ProjectError(
                f"contract: {self.name}: allowed=(…) are different texts or numbers."
            )
        if self.bounds[0] > self.bounds[1]:
            raise ProjectError(f"contract: {self.name}: the minimum is above the maximum.")

    @cached_property
    def arrow_type(self) -> pa.DataType:
        """The type of the column's values in a table."""
        return pa.int64() if self._numbered else ARROW_TYPES[self.type]

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest numeric form, both included and always finite."""
        if self.type in ("category", "boolean"):
            return 0.0, max(1.0, len(self.allowed) - 1.0)
        widest = LARGEST_FLOAT if self.type == "float" else LARGEST_INTEGER
        low, high = _days(self.minimum), _days(self.maximum)
        return -widest if low is None else low, widest if high is None else high

    def encode(self, values: pa.Array) -> tuple[np.ndarray, Violations]:
        """The numeric form of ``values``, float64 of shape (rows,), and what breaks the contract.

        The second part is a list of (row indices, reason); a row stands in it once at most.
        """
        codes, unreadable = self._codes(values)
        low, high = self.bounds
        whole = self.type != "integer" or pa.types.is_integer(values.type)
        # NaN fails the comparison, so that where it holds nothing is missing or unreadable.
        if whole and len(codes) and codes.min() >= low and codes.max() <= high:
            return codes, []
        return codes, list(self._violations(codes, unreadable))

    def _codes(self, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Numeric form, NaN where missing or unreadable; mask of the unreadable."""
        if self.type != "category":
            # Whole numbers and 0/1 are judged as numbers, so that 5.5 and 2 are not cut to fit.
            number = self.type == "integer" or pa.types.is_integer(values.type)
            kind = pa.float64() if number else self.arrow_type
            typed, unreadable = self.read(values, kind)
            return _floats(typed), unreadable
        kind = pa.float64() if self._numbered else pa.string()
        typed, unreadable = self.read(values, kind)
        codes = _floats(pc.index_in(typed, value_set=pa.array(self.allowed).cast(kind)))
        return codes, unreadable | (np.isnan(codes) & ~_mask(typed.is_null(nan_is_null=True)))

    def read(self, values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, np.ndarray]:
        """``values`` as ``kind``, null where missing or unreadable; mask of the unreadable.

        One value that cannot be read does not spoil the others.
        """
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if values.type == kind and kind == pa.float64():
            return values, np.False_
        if any(is_text(values.type) for is_text in TEXTS):
            values = pc.utf8_trim_whitespace(values)
            values = pc.if_else(pc.equal(values, ""), pa.scalar(None, values.type), values)
        elif not any(fits(values.type) for fits in (pa.types.is_null, *SOURCES[self.type])):
            return pa.nulls(len(values), kind), _mask(values.is_valid())
        try:
            # A time of day is cut off a date; anything else must convert without loss.
            return values.cast(kind, safe=self.type not in ("date", "float")), np.False_
        except pa.ArrowInvalid:
            typed = pa.array([_cast(value, kind) for value in values], kind)
            return typed, _mask(pc.and_(typed.is_null(), values.is_valid()))

    def _violations(self, codes: np.ndarray, unreadable: np.ndarray) -> Iterator:
        low, high = self.bounds
        missing = np.isnan(codes) & ~unreadable
        wanted = f"of type {self.type}"
        if self.allowed:
            wanted = "one of " + ", ".join(map(str, self.allowed))
        yield from _found(unreadable & np.ones(len(codes), bool), f"is not {wanted}")
        if not self.nullable:
            yield from _found(missing, "is missing")
        infinite = np.isinf(codes)
        yield from _found(infinite, "is not finite")
        fraction = ~infinite & (codes != np.floor(codes)) & ~np.isnan(codes)
        if self.type == "integer":
            yield from _found(fraction, "is not a whole number")
            infinite |= fraction
        yield from _found(~infinite & (codes < low), f"is below the minimum {self._shown(low)}")
        yield from _found(~infinite & (codes > high), f"is above the maximum {self._shown(high)}")

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The column's own values from their numeric form, as a model answers with it."""
        if self.type == "category":
            return np.array(self.allowed)[codes.astype(np.int64)]
        if self.type == "date":
            return codes.round().astype("datetime64[D]")
        if self.type in ("boolean", "integer"):
            return codes.round().astype(bool if self.type == "boolean" else np.int64)
        return codes

    @cached_property
    def drawn_from(self) -> tuple[float | None, float | None]:
        """Numeric range that the contract gives, None where it gives no end."""
        if self.type in ("category", "boolean"):
            return self.bounds
        return _days(self.minimum), _days(self.maximum)

    @property
    def range(self) -> str:
        """The allowed values, or the ends of the range, as text."""
        ends = ["" if end is None else str(end) for end in (self.minimum, self.maximum)]
        return ", ".join(map(str, self.allowed)) or (" … ".join(ends) if any(ends) else "")

    @property
    def _numbered(self) -> bool:
        return bool(self.allowed) and isinstance(self.allowed[0], int)

    def _shown(self, bound: float) -> str:
        return str(self.decode(np.array([bound]))[0]) if self.type == "date" else f"{bound:g}"


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
        """Mark rows as invalid; ``values`` are those of ``column``, of all rows."""
        self.valid[rows] = False
        count = len(rows)
        try:
            shown = values.take(pa.array(rows)).cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            shown = pa.array([repr(values[row].as_py()) for row in rows.tolist()])
        columns = [pa.array(rows), [column] * count, shown, [reason] * count]
        self._found.append(pa.table(columns, schema=VIOLATIONS))

    @property
    def violations(self) -> pa.Table:
        """One line per bad value, with the schema VIOLATIONS; rows counted within the batch."""
        if not self._found:
            return VIOLATIONS.empty_table()
        order = [("row", "ascending"), ("column", "ascending")]
        return pa.concat_tables(self._found).sort_by(order)


@dataclass(frozen=True)
class Contract:
    """The columns a model takes, the target it predicts, and the version of this agreement.

    ``key`` names the column that identifies a row; predictions carry it, the model never sees it.
    """

    version: str
    columns: tuple[Column, ...]
    target: Column
    key: Column | None = None

    def __post_init__(self) -> None:
        names = [*self.names, self.target.name, *([self.key.name] if self.key else [])]
        texts = [column.name for column in (*self.columns, self.target) if column.type == "text"]
        if texts:
            raise ProjectError(f"contract: {', '.join(texts)}: only a key may be text.")
        if self.key and (
            self.key.type not in ("integer", "text") or self.key.drawn_from != (None, None)
        ):
            raise ProjectError(
                f"contract: {self.key.name}: a key is an integer or a text, any of them."
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ProjectError(f"contract: {', '.join(twice)} is named twice.")

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def needed(self) -> list[str]:
        """Names of the columns that scoring reads: the features, and the key if there is one."""
        return [*([self.key.name] if self.key else []), *self.names]

    def require(self, names: list[str], where: str) -> None:
        """Refuse a table that lacks a column, and say which name was probably meant."""
        missing = [name for name in self.needed if name not in names]
        if missing:
            others = {name.casefold(): name for name in names if name not in self.needed}
            near = difflib.get_close_matches(missing[0].casefold(), others, 1, 0.7)
            hint = f" (is {others[near[0]]} meant to be {missing[0]}?)" if near else ""
            raise ProjectError(f"{where}: column {', '.join(missing)} is missing{hint}.")
        twice = [name for name in self.needed if names.count(name) > 1]
        if twice:
            raise ProjectError(f"{where}: column {', '.join(twice)} is there twice.")

    def check(self, batch: pa.RecordBatch) -> Checked:
        """Validate and encode a batch in one pass over its columns."""
        checked = Checked(np.empty((batch.num_rows, len(self.columns)), np.float32))
        for index, column in enumerate(self.columns):
            values = batch.column(column.name)
            codes, violations = column.encode(values)
            with np.errstate(over="ignore"):
                checked.matrix[:, index] = codes
            for rows, reason in violations:
                checked.reject(rows, column.name, values, reason)
        if self.key and self.key.name in batch.schema.names:
            checked.keys = self._check_keys(batch.column(self.key.name), checked)
        return checked

    def _check_keys(self, values: pa.Array, checked: Checked) -> pa.Array:
        keys, _ = self.key.read(values, self.key.arrow_type)
        for rows, reason in _found(
            _mask(keys.is_null()), f"is missing or not of type {self.key.type}"
        ):
            checked.reject(rows, self.key.name, values, reason)
        return keys

    def encode(self, data: Any) -> np.ndarray:
        """The float32 matrix of shape (rows, columns); a row that breaks the contract is an error.

        ``data`` is an Arrow table or batch, a pandas DataFrame, or a mapping of column to values.
        """
        batch = as_batch(data)
        replace(self, key=None).require(batch.schema.names, "data")
        checked = self.check(batch)
        if not checked.valid.all():
            first = checked.violations.slice(0, 1).to_pylist()[0]
            more = checked.violations.num_rows - 1
            raise ProjectError(
                f"data: row {first['row']}, column {first['column']}: {first['value']} "
                f"{first['reason']}" + (f" (and {more} more)." if more else ".")
            )
        return checked.matrix

    @property
    def numeric_form(self) -> list[list]:
        """What fixes the meaning of the matrix; a model only fits code with the same one."""
        return [
            [column.name, column.type, list(column.allowed)]
            for column in (*self.columns, self.target)
        ]

    def describe(self) -> dict:
        """The contract as plain JSON values."""
        columns = [_plain(asdict(column)) for column in self.columns]
        target = _plain(asdict(self.target))
        key = _plain(asdict(self.key)) if self.key else None
        return {"version": self.version, "key": key, "columns": columns, "target": target}

    def markdown(self) -> str:
        """The contract as the table of docs/contract.md."""
        rows = [
            "| column | type | unit | values | missing | meaning |",
            "|---|---|---|---|---|---|",
        ]
        roles = {id(self.key): " (key)", id(self.target): " (target)"}
        for column in (*([self.key] if self.key else []), *self.columns, self.target):
            name = column.name + roles.get(id(column), "")
            cells = (name, column.type, column.unit, column.range, column.description)
            missing = "yes" if column.nullable else "no"
            rows.append("| " + " | ".join([*cells[:4], missing, cells[4]]) + " |")
        return "\n".join(rows)


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
    """An Arrow array of Python values; of mixed types it is text, which validation then judges."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _floats(values: pa.Array) -> np.ndarray:
    """float64 of shape (rows,), without a copy where Arrow allows; null becomes NaN."""
    if pa.types.is_date(values.type):
        values = values.cast(pa.int32())
    if values.type != pa.float64():
        values = values.cast(pa.float64())
    return values.to_numpy(zero_copy_only=False)


def _mask(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False)


def _cast(value: pa.Scalar, kind: pa.DataType) -> Any:
    try:
        return value.cast(kind).as_py()
    except pa.ArrowInvalid:
        return None


def _found(mask: np.ndarray, reason: str) -> Iterator[tuple[np.ndarray, str]]:
    if mask.any():
        yield np.flatnonzero(mask), reason


def _days(bound: float | date | None) -> float | None:
    """A bound in numeric form; of a date its days since 1970-01-01."""
    return (bound - date(1970, 1, 1)).days if isinstance(bound, date) else bound


def _plain(values: dict) -> dict:
    return {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in values.items()
        if value not in (None, "", ())
    }
