"""One column of a contract: which values it may hold, and their numeric form.

The contract alone defines the numeric form: a number is itself, a category its index among the
allowed values, a boolean 0 or 1, a date its days since 1970-01-01, a missing value NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..errors import ProjectError

TYPES = ("float", "integer", "boolean", "category", "date", "text")
# float32 holds every whole number up to here; beyond it the model would see another number.
LARGEST_INTEGER = 2.0**24
LARGEST_FLOAT = float(np.finfo(np.float32).max)
EPOCH = date(1970, 1, 1)
# How many of the allowed values a reason lists.
SHOWN = 8
# A date as text; a time of day after it is ignored. Python and Arrow both use this pattern.
DATE = (
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
Violations = list[tuple[np.ndarray, str]]


@dataclass(frozen=True)
class Column:
    """One column of a table: its name, type and the values it may take.

    ``minimum`` and ``maximum`` (both included) go with numbers and dates, ``allowed`` with
    categories. A missing value (null, NaN, an empty CSV cell) needs ``nullable=True``. ``text``
    has no numeric form and is for keys only. ``example`` is the value that documentation shows.
    """

    name: str
    type: Literal["float", "integer", "boolean", "category", "date", "text"]
    description: str = ""
    unit: str = ""
    minimum: float | date | None = None
    maximum: float | date | None = None
    allowed: tuple[str | int, ...] = ()
    nullable: bool = False
    example: Any = None

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            known = ", ".join(TYPES)
            raise ProjectError(f"contract: {self.name}: {self.type!r} is no type; use {known}.")
        if (self.type == "category") != bool(self.allowed):
            raise ProjectError(f"contract: {self.name}: allowed=(…) goes with a category.")
        kinds = {type(value) for value in self.allowed}
        if len(set(self.allowed)) < len(self.allowed) or not (kinds <= {int} or kinds <= {str}):
            raise ProjectError(
                f"contract: {self.name}: allowed=(…) are different texts or numbers."
            )
        for bound in (self.minimum, self.maximum):
            if bound is not None and (problem := self._misfit(bound)):
                raise ProjectError(f"contract: {self.name}: the limit {bound!r} {problem}.")
        if self.bounds[0] > self.bounds[1]:
            raise ProjectError(f"contract: {self.name}: the minimum is above the maximum.")
        if self.example is not None and not self._allows(self.example):
            raise ProjectError(f"contract: {self.name}: the example {self.example!r} breaks it.")

    def _misfit(self, bound: Any) -> str | None:
        """What is wrong with a minimum or maximum of this column, if anything."""
        if self.type == "date":
            return None if type(bound) is date else "must be a datetime.date"
        if self.type not in ("float", "integer") or type(bound) not in (float, int):
            return "goes with a number or a date, and must be one"
        if not -self._widest <= bound <= self._widest:
            exact = "holds exactly; what is larger is float, or the key"
            return f"is beyond what float32 {exact if self.type == 'integer' else 'holds'}"
        return None

    @property
    def _widest(self) -> float:
        return LARGEST_FLOAT if self.type == "float" else LARGEST_INTEGER

    def _allows(self, value: Any) -> bool:
        """Whether a value written in contract.py, such as the example, is allowed."""
        if self.type == "category":
            return value in self.allowed
        kinds = {"float": int | float, "date": date, "integer": int, "boolean": bool}
        low, high = self.bounds
        return self.type == "text" or (
            isinstance(value, kinds[self.type]) and low <= _days(value) <= high
        )

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest numeric form, both included and always finite."""
        if self.type in ("category", "boolean"):
            return 0.0, max(1.0, len(self.allowed) - 1.0)
        low, high = _days(self.minimum), _days(self.maximum)
        least, most = -self._widest, self._widest
        if self.type == "date":
            least, most = _days(date.min), _days(date.max)
        return least if low is None else low, most if high is None else high

    @property
    def classes(self) -> int:
        """How many classes a target of this type has, 0 for numbers and dates."""
        return len(self.allowed) if self.allowed else 2 * (self.type == "boolean")

    @property
    def class_names(self) -> list[str]:
        """The classes of a target as text, in the order of their codes; empty for other types."""
        return [str(value) for value in self.allowed] or ["false", "true"][: self.classes]

    def judge(self, codes: np.ndarray, unreadable: np.ndarray) -> Violations:
        """Find the values that break the contract, by ``codes``, their numeric form.

        :param codes: float64 of shape (rows,), NaN where a value is missing or unreadable.
        :param unreadable: boolean mask of shape (rows,), or ``np.False_`` where all were read.
        :returns: (row indices, reason) for each reason; a row has at most one reason.
        """
        return list(self._violations(codes, unreadable))

    def _violations(self, codes: np.ndarray, unreadable: np.ndarray) -> Iterator:
        low, high = self.bounds
        missing = np.isnan(codes) & ~unreadable
        wanted = f"of type {self.type}"
        if self.allowed:
            wanted = "one of " + ", ".join(map(str, self.allowed[:SHOWN]))
            wanted += f" and {more} more" if (more := len(self.allowed) - SHOWN) > 0 else ""
        yield from found(unreadable & np.ones(len(codes), bool), f"is not {wanted}")
        if not self.nullable:
            yield from found(missing, "is missing")
        infinite = np.isinf(codes)
        yield from found(infinite, "is not finite")
        fraction = ~infinite & (codes != np.floor(codes)) & ~np.isnan(codes)
        if self.type in ("integer", "boolean"):
            yield from found(fraction, "is not a whole number")
            infinite |= fraction
        yield from found(~infinite & (codes < low), f"is below the minimum {self._shown(low)}")
        yield from found(~infinite & (codes > high), f"is above the maximum {self._shown(high)}")

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The column's values from their numeric form, such as the output of a model."""
        if self.type == "category":
            return np.array(self.allowed)[codes.astype(np.int64)]
        if self.type == "date":
            return codes.round().astype("datetime64[D]")
        if self.type in ("boolean", "integer"):
            return codes.round().astype(bool if self.type == "boolean" else np.int64)
        return codes

    @cached_property
    def drawn_from(self) -> tuple[float | None, float | None]:
        """The contract's range in numeric form; None for an end that it does not give."""
        if self.type in ("category", "boolean"):
            return self.bounds
        return _days(self.minimum), _days(self.maximum)

    @property
    def range(self) -> str:
        """The allowed values, or the ends of the range, as text."""
        ends = ["" if end is None else str(end) for end in (self.minimum, self.maximum)]
        return ", ".join(map(str, self.allowed)) or (" … ".join(ends).strip() if any(ends) else "")

    @property
    def numbered(self) -> bool:
        """Whether the column is a category of numbers, such as 0, 1, 2."""
        return bool(self.allowed) and isinstance(self.allowed[0], int)

    def _shown(self, bound: float) -> str:
        return str(self.decode(np.array([bound]))[0]) if self.type == "date" else f"{bound:.10g}"


def found(mask: np.ndarray, reason: str) -> Iterator[tuple[np.ndarray, str]]:
    if mask.any():
        yield np.flatnonzero(mask), reason


def _days(bound: float | date | None) -> float | None:
    """A bound in numeric form: for a date, its days since 1970-01-01."""
    return (bound - EPOCH).days if isinstance(bound, date) else bound
