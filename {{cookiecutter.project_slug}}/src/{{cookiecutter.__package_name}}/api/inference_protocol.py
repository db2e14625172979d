"""The Open Inference Protocol, version 2, as KServe, Seldon and Triton's clients speak it.

A tensor is a column of the contract, of shape (rows) or (rows, 1); or one tensor alone holds all
columns in the contract's order, of shape (rows, columns). Tensors come as JSON.
"""

import json
import math
from typing import Any, NamedTuple

from ..contract import CONTRACT
from ..schema import Contract
from ..schema.columns import Column
from .problems import Problem
from .values import Rows, read, violated, violation
from .wire import parse_json, unknown_model

DATATYPES = {
    "float": "FP64",
    "integer": "INT64",
    "boolean": "BOOL",
    "category": "BYTES",
    "date": "BYTES",
    "text": "BYTES",
}
KINDS = {"BOOL", "BYTES", "FP16", "FP32", "FP64"} | {
    f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)
}
OUTPUTS = ("predictions", "probabilities")
MOST_TENSORS = 10_000


def datatype(column: Column) -> str:
    return "INT64" if column.numbered else DATATYPES[column.type]


def metadata(contract: Contract, served) -> dict:
    """What GET /v2/models/{name} answers."""
    outputs = [("predictions", datatype(contract.target))]
    if served.model.metadata["probabilities"]:
        outputs.append(("probabilities", "FP64"))
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor(column.name, datatype(column)) for column in contract.columns],
        "outputs": [_tensor(*output) for output in outputs],
    }


def _tensor(name: str, kind: str) -> dict:
    return {"name": name, "datatype": kind, "shape": [-1]}


class Asked(NamedTuple):
    """What an inference request asks for: the id to answer with, and the outputs; none is all."""

    id: str
    outputs: list[str]


def rows(contract: Contract, body: bytes, most_rows: int) -> tuple[Rows, Asked]:
    """The rows of an inference request, and what else it asks.

    :raises Problem: 400, 422.
    """
    request = parse_json(body)
    inputs = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(inputs, list) or not 0 < len(inputs) <= MOST_TENSORS:
        raise violated([violation("inputs", None, None, "is no list of tensors")])
    columns = {}
    for tensor in inputs:
        values, shape = _values(tensor)
        if len(shape) == 2 and shape[1] == len(contract.columns) and len(inputs) == 1:
            table = [values[at :: shape[1]] for at in range(shape[1])]
            columns = dict(zip(contract.names, table, strict=True))
        elif tensor["name"] in columns:
            raise violated([violation(tensor["name"], None, None, "is there twice")])
        elif len(shape) == 1 or shape[1] == 1:
            columns[tensor["name"]] = values
        else:
            raise violated([violation(tensor["name"], None, shape, "is no shape of a column")])
    asked = Asked(_id(request), _outputs(request))
    return read(contract, columns, most_rows), asked


def _id(request: dict) -> str:
    given = request.get("id")
    given = "" if given is None else given
    if not isinstance(given, str):
        raise violated([violation("id", None, None, "is no text")])
    return given


def _outputs(request: dict) -> list[str]:
    outputs = request.get("outputs")
    outputs = [] if outputs is None else outputs
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise violated([violation("outputs", None, None, "is no list of outputs")])
    names = [each.get("name") for each in outputs]
    found = [
        violation("outputs", index, name, "is no output of the model")
        for index, name in enumerate(names)
        if name not in OUTPUTS
    ]
    if found:
        raise violated(found)
    return names


def _values(tensor: Any) -> tuple[list, list]:
    """A tensor's values in row-major order, and its shape."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise violated([violation("inputs", None, None, "holds a tensor without name")])
    name, shape, kind = tensor["name"], tensor.get("shape"), tensor.get("datatype")
    if (
        not isinstance(shape, list)
        or len(shape) not in (1, 2)
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        raise violated([violation(name, None, shape, "is no shape of a column")])
    if not isinstance(kind, str) or kind not in KINDS:
        raise violated([violation(name, None, kind, "is no datatype of a column")])
    values = _flat(tensor.get("data"))
    if len(values) != math.prod(shape):
        raise violated([violation(name, None, shape, f"does not fit {len(values)} values")])
    return values, shape


def _flat(data: Any) -> list:
    """Values that may be nested, as the protocol allows, one level deep."""
    if not isinstance(data, list):
        raise violated([violation("inputs", None, None, "holds a tensor without data")])
    if data and all(isinstance(row, list) for row in data):
        return [value for row in data for value in row]
    return data


def answer(name: str, version: str, asked: Asked, predictions) -> bytes:
    """The inference response."""
    kinds = (datatype(CONTRACT.target), "FP64")
    outputs = [
        (output, kind, values)
        for output, kind, values in zip(OUTPUTS, kinds, predictions, strict=True)
        if values is not None and (not asked.outputs or output in asked.outputs)
    ]
    response = {
        "model_name": name,
        "model_version": version,
        **({"id": asked.id} if asked.id else {}),
        "outputs": [
            {"name": output, "datatype": kind, "shape": [len(values)], "data": values}
            for output, kind, values in outputs
        ],
    }
    return json.dumps(response, default=str).encode()


def require(name: str, version: str | None, served) -> None:
    """:raises Problem: 404, another model or version."""
    if name != served.name:
        raise unknown_model(name, served.name)
    if version is not None and version != served.version:
        detail = f"version {version[:100]!r} does not serve, only {served.version!r}."
        raise Problem(404, "unknown_model", detail)
