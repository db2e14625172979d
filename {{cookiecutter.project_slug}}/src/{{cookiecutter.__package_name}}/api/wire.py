"""The format of POST /predict: columns in, predictions out.

A decoder made from the contract reads a valid request and checks its types and ranges in one step.
Any other request goes through values.py, which decides and reports what is wrong.
"""

import json
import math
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from ..schema import Contract
from ..schema.columns import EPOCH, Column
from .problems import Problem
from .values import Rows, broken, read


class AnyRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A request whose columns are not checked yet."""

    data: dict
    model: Any = None


class Named(msgspec.Struct):
    """The model that answered."""

    name: str
    version: str


class Answer(msgspec.Struct, omit_defaults=True):
    """What POST /predict answers; the other members on request."""

    predictions: list
    probabilities: list[float | None] | None = None
    class_probabilities: dict[str, list[float | None]] | None = None
    model: Named | None = None


class PredictRequest:
    """Reads the bodies of POST /predict; ``struct`` is the type that the contract requires."""

    def __init__(self, contract: Contract, most_rows: int) -> None:
        self.contract, self.most_rows = contract, most_rows
        columns = [
            (f"c{i}", told(column, _typed(column), most_rows))
            for i, column in enumerate(contract.columns)
        ]
        names = {f"c{i}": column.name for i, column in enumerate(contract.columns)}
        if key := contract.key:
            text = Annotated[str, msgspec.Meta(pattern=r"\S")]
            kind = told(key, int if key.type == "integer" else text, most_rows)
            columns.append(("key", kind | msgspec.UnsetType, msgspec.UNSET))
            names["key"] = key.name
        data = msgspec.defstruct("Rows", columns, rename=names, forbid_unknown_fields=True)
        members = [("data", data), ("model", str | None, None)]
        self.struct = msgspec.defstruct("PredictRequest", members, forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(self.struct).decode
        self._recode = [
            (i, _recoder(column))
            for i, column in enumerate(contract.columns)
            if column.type in ("category", "date")
        ]

    def read(self, body: bytes, served: str) -> Rows:
        """The rows of a request to the model named ``served``.

        :raises Problem: 400 no JSON, 404 another model, 422 the contract is broken.
        """
        try:
            request = self._decode(body)
            columns = list(msgspec.structs.astuple(request.data)[: len(self.contract.columns)])
            lengths = {len(values) for values in columns}
            if self.contract.key and request.data.key is not msgspec.UNSET:
                lengths.add(len(request.data.key))
            if len(lengths) == 1 and lengths.pop() <= self.most_rows:
                for index, recode in self._recode:
                    columns[index] = recode(columns[index])
                self._require(request.model, served)
                return Rows(np.array(columns, np.float32).T, request.data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError):
            pass  # read again below, for an answer that says what is wrong
        return self._read_again(body, served)

    def _read_again(self, body: bytes, served: str) -> Rows:
        hint = f'; send {{"data": {{"{self.contract.names[0]}": [...], ...}}}}'
        request = typed(parse_json(body), AnyRequest, hint)
        self._require(request.model, served)
        return read(self.contract, request.data, self.most_rows)

    @staticmethod
    def _require(model: Any, served: str) -> None:
        if model is not None and model != served:
            raise unknown_model(model, served)


def unknown_model(name: Any, served: str) -> Problem:
    return Problem(404, "unknown_model", f"there is no model {str(name)[:100]!r}, only {served!r}.")


def parse_json(body: bytes, nan: bool = False) -> Any:
    """The value of a JSON text in UTF-8.

    :param nan: whether NaN and Infinity, which JSON lacks, are accepted as numbers.
    :raises Problem: 400.
    """
    try:
        return json.loads(body.decode(), parse_constant=float if nan else _refuse_constant)
    except RecursionError:
        problem = "it is nested too deeply"
    except UnicodeDecodeError:
        problem = "it is not UTF-8"
    except ValueError as error:
        # Python's message names a function of Python.
        problem = "a number has too many digits" if "digits" in str(error) else str(error)
    raise Problem(400, "malformed", f"the body cannot be read as JSON: {problem}.")


def typed(content: Any, kind: type, hint: str = "") -> Any:
    """Convert JSON values to a type of msgspec.

    :param hint: is appended to the reason.
    :raises Problem: 422, the values do not have this type.
    """
    try:
        return msgspec.convert(content, kind)
    except UnicodeError:
        reason = "the body holds half a character"
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        reason = f"{where.strip('.`') or 'the body'}: {what[0].lower()}{what[1:]}"
    raise broken(reason + hint)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number; a missing value is null")


def told(column: Column, kind: Any, most_rows: int) -> Any:
    """The type of a list of a column's values, with its description for OpenAPI."""
    text = column.description + (f", in {column.unit}" if column.unit else "")
    examples = None if column.example is None else [[written(column.example)]]
    meta = msgspec.Meta(max_length=most_rows, description=text or None, examples=examples)
    return Annotated[list[kind], meta]


def written(value: Any) -> Any:
    """A value of a column as JSON represents it."""
    return value.isoformat() if isinstance(value, date) else value


def _typed(column: Column) -> Any:
    """The Python type that a decoder checks a column's values against, range included."""
    low, high = column.bounds
    kinds: dict[str, Any] = {
        "float": Annotated[float, msgspec.Meta(ge=low, le=high)],
        "boolean": bool | Literal[0, 1],
        "date": date,
    }
    if column.type == "integer":
        kind = Annotated[int, msgspec.Meta(ge=math.ceil(low), le=math.floor(high))]
    else:
        kind = kinds.get(column.type) or Literal[column.allowed]
    return kind | None if column.nullable else kind


def _recoder(column: Column):
    """A function that converts a column's values, already checked, to their numeric form."""
    low, high = column.bounds
    if column.type == "category":
        codes = {value: float(code) for code, value in enumerate(column.allowed)}
        codes[None] = float("nan")
        return lambda values: [codes[value] for value in values]

    def days(values: list) -> list[float]:
        found = [float("nan") if value is None else (value - EPOCH).days for value in values]
        if any(day < low or day > high for day in found):
            raise OverflowError
        return found

    return days
