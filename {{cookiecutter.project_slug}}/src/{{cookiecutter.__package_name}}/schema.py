"""What a contract is made of, and what it does with a table: validate it, and make it numbers.

A batch of rows becomes one float32 matrix of shape (rows, columns), whatever the columns are: each
has a numeric form, see columns.py.
"""

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from .columns import Column, found, mask
from .errors import ProjectError

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
        for rows, reason in found(
            mask(keys.is_null()), f"is missing or not of type {self.key.type}"
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


def _plain(values: dict) -> dict:
    return {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in values.items()
        if value not in (None, "", ())
    }
