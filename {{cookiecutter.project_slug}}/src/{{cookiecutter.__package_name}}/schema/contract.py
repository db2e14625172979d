"""The contract: it validates a table and encodes it as numbers.

A batch of rows becomes one float32 matrix of shape (rows, columns); columns.py describes the
numeric form of each type of column.
"""

import difflib
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from ..errors import ProjectError
from .columns import Column

# Other columns of predictions and rejected rows; a key with such a name would replace one.
OF_PREDICTIONS = ("prediction", "probability", "model_version", "run_id", "predicted_at")
RESERVED = {"source", "row", *OF_PREDICTIONS, "column", "value", "reason"}


@dataclass(frozen=True)
class Contract:
    """The columns a model takes, the target it predicts, and the version of this agreement.

    ``key`` is the column that identifies a row; predictions include it, the model never gets it.
    ``time`` names a date column, of the contract or only of the training table; training holds out
    the newest rows by it.
    """

    version: str
    columns: tuple[Column, ...]
    target: Column
    key: Column | None = None
    time: str = ""

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
        reserved = {*RESERVED, *map(str.casefold, self.probabilities)}
        if self.key and self.key.name.casefold() in reserved:
            raise ProjectError(
                f"contract: {self.key.name}: predictions have a column of this name themselves: "
                "name the key otherwise, here, in data.py and in what is scored."
            )
        if self.time and self.time_column.type != "date":
            raise ProjectError(f"contract: {self.time}: time is told by a date.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ProjectError(f"contract: {', '.join(twice)} is named twice.")

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns that a prediction reads: the key if there is one, and the features."""
        return (*((self.key,) if self.key else ()), *self.columns)

    @property
    def needed(self) -> list[str]:
        """The names of ``inputs``."""
        return [column.name for column in self.inputs]

    @property
    def time_column(self) -> Column:
        """The column that ``time`` names."""
        known = (*self.inputs, self.target)
        return next((each for each in known if each.name == self.time), Column(self.time, "date"))

    @property
    def probabilities(self) -> list[str]:
        """The columns of predictions that hold the probability of each class."""
        return [f"probability_{name}" for name in self.target.class_names]

    def require(self, names: list[str], where: str, training: bool = False) -> None:
        """Refuse a table that lacks a column or has it twice; the error suggests a similar name.

        :param training: whether the target and ``time`` are required, too.
        """
        others = [self.target.name, *([self.time] if self.time else [])] if training else []
        needed = [*dict.fromkeys([*self.needed, *others])]
        missing = [name for name in needed if name not in names]
        if missing:
            others = {name.casefold(): name for name in names if name not in needed}
            near = difflib.get_close_matches(missing[0].casefold(), others, 1, 0.7)
            hint = f" (there is {others[near[0]]})" if near else ""
            if mark := other_separator(names):
                hint = f" (are its cells separated by {mark!r}? Write it with commas)"
            raise ProjectError(f"{where}: column {', '.join(missing)} is missing{hint}.")
        twice = [name for name in needed if names.count(name) > 1]
        if twice:
            raise ProjectError(f"{where}: column {', '.join(twice)} is there twice.")

    def check(self, batch):
        """Validate and encode an Arrow batch; returns an ``arrow.Checked``."""
        # Imported here, because an API runs without Arrow.
        from . import arrow

        return arrow.check(self, batch)

    def encode(self, data: Any) -> np.ndarray:
        """The float32 matrix of shape (rows, columns); argument and errors as for ``checked``."""
        return self.checked(data).matrix

    def checked(self, data: Any):
        """An ``arrow.Checked`` without violations; a row that breaks the contract is an error.

        ``data`` is an Arrow table or batch, a pandas DataFrame, or a mapping of column to values.
        """
        from .arrow import as_batch

        batch = as_batch(data)
        replace(self, key=None).require(batch.schema.names, "data")
        checked = self.check(batch)
        if not checked.valid.all():
            raise ProjectError(f"data: {checked.told}.")
        return checked

    @property
    def numeric_form(self) -> list[list]:
        """The definition of the matrix, which must be the same for the model and the code."""
        return [
            [column.name, column.type, list(column.allowed), column.unit, column.nullable]
            for column in (*self.columns, self.target)
        ]

    def describe(self) -> dict:
        """The contract as plain JSON values."""
        columns = [_plain(asdict(column)) for column in self.columns]
        target = _plain(asdict(self.target))
        key = _plain(asdict(self.key)) if self.key else None
        told = {"version": self.version, "key": key, "columns": columns, "target": target}
        return told | ({"time": self.time} if self.time else {})

    def markdown(self) -> str:
        """The contract as the table of docs/contract.md."""
        rows = [
            "| column | type | unit | values | missing | meaning |",
            "|---|---|---|---|---|---|",
        ]
        roles = {id(self.key): " (key)", id(self.target): " (target)"}
        for column in (*self.inputs, self.target):
            name = column.name + roles.get(id(column), "")
            missing = "yes" if column.nullable else "no"
            cells = (name, column.type, column.unit, column.range, missing, column.description)
            rows.append("| " + " | ".join(map(_cell, cells)) + " |")
        return "\n".join(rows)


def other_separator(names: list[str]) -> str:
    """The likely separator of a csv file whose header was read as one name, empty if none."""
    return next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), "")


def _cell(text: str) -> str:
    """Text as a cell of a Markdown table."""
    return text.replace("\n", " ").replace("|", "\\|").replace("<!--", "&lt;!--")


def _plain(values: dict) -> dict:
    return {name: _json(value) for name, value in values.items() if value not in (None, "", ())}


def _json(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value
