"""JSON values of a request: read, checked by the contract, and converted to numbers.

All protocols use this module, except that wire.py reads a valid POST /predict itself. Files and
database tables are read as Arrow data instead (schema/arrow.py). Both use ``Column.judge``.
"""

import difflib
import json
import math
import re
from collections.abc import Iterable
from datetime import date
from typing import Any, NamedTuple

import numpy as np

from ..schema import Contract
from ..schema.columns import DATE, EPOCH, Column
from .problems import Problem

# Limits of an answer: how many violations it lists, and how much of a value it shows.
MOST_VIOLATIONS, LONGEST_VALUE = 100, 100
NUMBERS = {float, int, type(None)}
SWITCHES = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
# Numbers and missing values in csv: the same as in other csv files, which tables/reader.py reads.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MISSING = ("NaN", "null")
LONGEST_NUMBER = 1_000


class Rows(NamedTuple):
    """Rows that meet the contract: their float32 matrix (rows, columns), and what was sent."""

    matrix: np.ndarray
    columns: Any


def read(contract: Contract, data: Any, most_rows: int, strict: bool = True) -> Rows:
    """The rows of ``data``, a mapping of column to a list of values.

    :param strict: whether a column that the contract does not know is a violation, or is ignored.
    :raises Problem: 422, with every violation: column, index, value and reason.
    """
    if not isinstance(data, dict):
        raise broken("the body holds no object of columns", value=data)
    found = list(_shape(contract, data, strict)) or list(_lengths(contract, data))
    if found:
        raise violated(found)
    columns = {name: data[name] for name in contract.needed if name in data}
    rows = len(next(iter(columns.values())))
    if rows > most_rows:
        detail = f"{rows} rows are more than the {most_rows} that one request may hold."
        raise Problem(422, "too_many_rows", detail, most_rows=most_rows)
    matrix = np.empty((rows, len(contract.columns)), np.float32)
    for index, column in enumerate(contract.columns):
        codes, unreadable = encode(column, data[column.name])
        for where, reason in column.judge(codes, unreadable):
            found += (violation(column.name, i, data[column.name][i], reason) for i in where)
        with np.errstate(over="ignore"):
            matrix[:, index] = codes
    found += _keys(contract, columns)
    if found:
        raise violated(found)
    return Rows(matrix, columns)


def encode(column: Column, values: list) -> tuple[np.ndarray, np.ndarray]:
    """The numeric form of values, float64 (rows,), NaN where missing or unreadable; and the mask
    of unreadable values."""
    if column.type in ("float", "integer") and set(map(type, values)) <= NUMBERS:
        try:
            return np.array(values, np.float64), np.False_
        except OverflowError:
            pass  # an integer too large for a float; value by value it becomes infinite
    codes = np.full(len(values), np.nan)
    unreadable = np.zeros(len(values), bool)
    for index, value in enumerate(values):
        try:
            codes[index] = _code(column, value)
        except (TypeError, ValueError):
            unreadable[index] = True
    return codes, unreadable


def _code(column: Column, value: Any) -> float:
    """One value's numeric form; TypeError or ValueError where it has none."""
    if isinstance(value, str) and column.type in ("category", "date"):
        value = value.strip() or None  # as in a file
    if value is None or (type(value) is float and math.isnan(value)):
        return math.nan
    if column.type == "date":
        found = re.fullmatch(DATE, value) if isinstance(value, str) else None
        if not found:
            raise TypeError
        return (date.fromisoformat(found[1]) - EPOCH).days
    if column.type == "category":
        if isinstance(value, bool):
            raise TypeError
        return column.allowed.index(value)
    if not isinstance(value, int | float) or (isinstance(value, bool) and column.type != "boolean"):
        raise TypeError
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def parse(column: Column, cell: str) -> Any:
    """The JSON value of a cell of a csv file.

    A cell that cannot be read stays text, so that the check of the contract reports it.
    """
    text = cell.strip()
    if not text or text in MISSING:
        return None
    if column.type == "boolean":
        return SWITCHES.get(text.lower(), cell)
    if column.type not in ("float", "integer") and not column.numbered:
        return cell if column.type == "text" else text
    if text.lower() == "nan":
        return None
    is_number = len(text) <= LONGEST_NUMBER and NUMBER.fullmatch(text)
    number = float(text) if is_number else math.inf
    if math.isinf(number):
        return cell
    if column.type == "float":
        return number
    # Whole numbers keep all digits, which a float would lose; beyond 64 bits they stay text.
    exact = int(text) if text.lstrip("+-").isdigit() else number
    exact = int(exact) if exact == int(exact) else exact
    return exact if -(2**63) <= exact < 2**63 else cell


def _shape(contract: Contract, data: dict, strict: bool) -> Iterable[dict]:
    needed = contract.needed
    unknown = [name for name in data if name not in needed]
    for index, name in enumerate(unknown if strict else ()):
        near = _nearest(name, needed) if index < MOST_VIOLATIONS else None
        hint = f", did you mean {near}?" if near else ""
        yield violation(name, None, None, f"is no column of the contract{hint}")
    for name in contract.names:
        if name not in data:
            near = _nearest(name, unknown[:MOST_VIOLATIONS])
            hint = f" (is {near} meant to be {name}?)" if near else ""
            yield violation(name, None, None, f"is missing{hint}")
    for name in needed:
        if name in data and not isinstance(data[name], list):
            yield violation(name, None, data[name], "is no list of values, such as [1, 2]")


def _lengths(contract: Contract, data: dict) -> Iterable[dict]:
    rows = len(data[contract.names[0]])
    for name in contract.needed:
        if name in data and len(data[name]) != rows:
            reason = f"has {len(data[name])} values and {contract.names[0]} has {rows}"
            yield violation(name, None, None, reason)


def _keys(contract: Contract, columns: dict) -> Iterable[dict]:
    """Violations of the key, which is optional; if sent, it is kept with the prediction."""
    key = contract.key
    kind = int if key and key.type == "integer" else str
    for index, value in enumerate(columns.get(key.name, ()) if key else ()):
        if type(value) is not kind or (kind is str and not value.strip()):
            missing = value is None or (type(value) is str and not value.strip())
            reason = "is missing" if missing else f"is not of type {key.type}"
            yield violation(key.name, index, value, reason)
        elif kind is str and not value.isascii() and not is_unicode(value):
            yield violation(key.name, index, value, "holds half a character")


def is_unicode(text: str) -> bool:
    """Whether the text can be stored: JSON can hold half of a surrogate pair, UTF-8 cannot."""
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def _nearest(name: str, others: Iterable[str]) -> str | None:
    folded = {other.casefold(): other for other in others}
    near = difflib.get_close_matches(name.casefold()[:100], folded, 1, 0.7)
    return folded[near[0]] if near else None


def violation(column: str | None, index: int | None, value: Any, reason: str) -> dict:
    # As text, because JSON has no NaN or infinity, which lists and objects may contain too.
    strange = isinstance(value, float) and not math.isfinite(value)
    long = isinstance(value, int) and value.bit_length() > LONGEST_VALUE
    if strange or long or isinstance(value, list | dict):
        value = str(value)
    if isinstance(value, str) and len(value) > LONGEST_VALUE:
        value = value[:LONGEST_VALUE] + "…"
    return {
        "column": column and column[:LONGEST_VALUE],
        "index": None if index is None else int(index),
        "value": value,
        "reason": reason,
    }


def broken(
    reason: str, column: str | None = None, index: int | None = None, value: Any = None
) -> Problem:
    """The problem of one violation; without a column, it is one of the whole request."""
    return violated([violation(column, index, value, reason)])


def violated(found: list[dict]) -> Problem:
    """The problem that lists the violations, up to MOST_VIOLATIONS, and their total number."""
    order = sorted(found, key=lambda each: (each["index"] is not None, each["index"] or 0))
    first = order[0]
    detail = first["reason"]
    if first["column"] is not None:
        place = f"column {first['column']}"
        if first["index"] is not None:
            place += f", index {first['index']}: {json.dumps(first['value'], ensure_ascii=False)}"
        detail = f"{place} {detail}"
    if len(found) > 1:
        detail += f" (and {len(found) - 1} more)"
    detail += "" if detail.endswith("?") else "."
    problem = Problem(
        422, "contract", detail, violations=order[:MOST_VIOLATIONS], violations_total=len(found)
    )
    problem.columns.update(each["column"] for each in found)
    return problem
