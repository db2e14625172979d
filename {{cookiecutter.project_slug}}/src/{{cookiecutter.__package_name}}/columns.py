"""One column of a contract: which values it may hold, and their numeric form.

Every column has one numeric form, given by the contract alone: a number is itself, a category
its index among the allowed values, a boolean 0 or 1, a date its days since 1970-01-01, a missing
value NaN.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
        return pa.int64() if self.numbered else ARROW_TYPES[self.type]

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
        kind = pa.float64() if self.numbered else pa.string()
        typed, unreadable = self.read(values, kind)
        codes = _floats(pc.index_in(typed, value_set=pa.array(self.allowed).cast(kind)))
        return codes, unreadable | (np.isnan(codes) & ~mask(typed.is_null(nan_is_null=True)))

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
            return pa.nulls(len(values), kind), mask(values.is_valid())
        try:
            # A time of day is cut off a date; anything else must convert without loss.
            return values.cast(kind, safe=self.type not in ("date", "float")), np.False_
        except pa.ArrowInvalid:
            typed = pa.array([_cast(value, kind) for value in values], kind)
            return typed, mask(pc.and_(typed.is_null(), values.is_valid()))

    def _violations(self, codes: np.ndarray, unreadable: np.ndarray) -> Iterator:
        low, high = self.bounds
        missing = np.isnan(codes) & ~unreadable
        wanted = f"of type {self.type}"
        if self.allowed:
            wanted = "one of " + ", ".join(map(str, self.allowed))
        yield from found(unreadable & np.ones(len(codes), bool), f"is not {wanted}")
        if not self.nullable:
            yield from found(missing, "is missing")
        infinite = np.isinf(codes)
        yield from found(infinite, "is not finite")
        fraction = ~infinite & (codes != np.floor(codes)) & ~np.isnan(codes)
        if self.type == "integer":
            yield from found(fraction, "is not a whole number")
            infinite |= fraction
        yield from found(~infinite & (codes < low), f"is below the minimum {self._shown(low)}")
        yield from found(~infinite & (codes > high), f"is above the maximum {self._shown(high)}")

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
        return ", ".join(map(str, self.allowed)) or (" … ".join(ends).strip() if any(ends) else "")

    @property
    def numbered(self) -> bool:
        """Whether it is a category of numbers, such as 0, 1, 2."""
        return bool(self.allowed) and isinstance(self.allowed[0], int)

    def _shown(self, bound: float) -> str:
        return str(self.decode(np.array([bound]))[0]) if self.type == "date" else f"{bound:g}"


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
    except pa.ArrowInvalid:
        return None


def found(mask: np.ndarray, reason: str) -> Iterator[tuple[np.ndarray, str]]:
    if mask.any():
        yield np.flatnonzero(mask), reason


def _days(bound: float | date | None) -> float | None:
    """A bound in numeric form; of a date its days since 1970-01-01."""
    return (bound - date(1970, 1, 1)).days if isinstance(bound, date) else bound
