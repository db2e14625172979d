"""POST /invocations: the format of MLflow's own server, which SageMaker and Azure ML use too.

JSON with ``dataframe_split``, ``dataframe_records``, ``instances`` or ``inputs``, or CSV with a
header. As in MLflow, columns that the model does not take are ignored.
"""

import csv
import io
from collections import Counter
from typing import Any

import msgspec

from ..schema import Contract
from ..schema.contract import other_separator
from .problems import Problem
from .values import Rows, broken, parse, read
from .wire import parse_json, typed

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
LARGEST_CELL = 100_000


class Split(msgspec.Struct):
    """As pandas' ``to_json(orient="split")`` has it."""

    data: list
    columns: list[str] | None = None


def rows(contract: Contract, kind: str, body: bytes, most_rows: int) -> Rows:
    """The rows of a body of the media type ``kind``.

    :raises Problem: 400, 415, 422.
    """
    if kind == "text/csv":
        return read(contract, _from_csv(contract, body), most_rows, strict=False)
    if kind != "application/json":
        raise Problem(415, "media_type", "send application/json or text/csv.")
    content = parse_json(body, nan=True)
    forms = [form for form in FORMS if isinstance(content, dict) and form in content]
    if len(forms) != 1:
        raise broken(f"send one of {', '.join(FORMS)}")
    return read(contract, _columns(contract, forms[0], content[forms[0]]), most_rows, strict=False)


def _columns(contract: Contract, form: str, data: Any) -> Any:
    """The columns of any of the forms; ``read`` refuses content that fits none of them."""
    if form == "dataframe_split":
        split = typed(data, Split)
        return _from_lists(contract.names if split.columns is None else split.columns, split.data)
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        needed, first = set(contract.needed), data[0] if data else dict.fromkeys(contract.names)
        for index, row in enumerate(data):
            if different := (row.keys() ^ first.keys()) & needed:
                reason = f"rows 0 and {index} differ in having {sorted(different)[0]}"
                raise broken(reason, index=index)
        return {name: [row[name] for row in data] if name in needed else [] for name in first}
    if isinstance(data, list):
        return _from_lists(contract.names, data)
    if isinstance(data, dict):
        return {name: v if isinstance(v, list) else [v] for name, v in data.items()}
    return data


def _from_lists(names: list[str], lists: list) -> dict:
    """The columns of rows whose values are in the order of ``names``."""
    [(name, times)] = Counter(names).most_common(1) or [("", 0)]
    if times > 1:
        raise broken("is there twice", name)
    for index, row in enumerate(lists):
        if not isinstance(row, list) or len(row) != len(names):
            raise broken(f"row {index} is no list of {len(names)} values", None, index, row)
    return {name: [row[at] for row in lists] for at, name in enumerate(names)}


def _from_csv(contract: Contract, body: bytes) -> dict:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Problem(400, "malformed", "the body is not UTF-8.") from None
    csv.field_size_limit(LARGEST_CELL)
    try:
        header, *lines = [line for line in csv.reader(io.StringIO(text)) if line] or [[]]
    except csv.Error as error:
        raise Problem(400, "malformed", f"the body cannot be read as csv: {error}.") from None
    if header != contract.names and (mark := other_separator(header)):
        raise broken(f"the cells are separated by {mark!r}: write them with commas")
    columns = _from_lists(header, lines)
    known = {column.name: column for column in contract.inputs}
    return {
        name: [parse(known[name], cell) if name in known else cell for cell in cells]
        for name, cells in columns.items()
    }
