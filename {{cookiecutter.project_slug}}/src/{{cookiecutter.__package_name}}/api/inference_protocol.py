"""The Open Inference Protocol, version 2, as KServe, Seldon and Triton's clients speak it.

A tensor is a column of the contract, of shape (rows) or (rows, 1); or one tensor alone holds all
columns in the contract's order, of shape (rows, columns). Tensors may come as JSON or in binary.
"""

import json
import math
from typing import Any, NamedTuple

import numpy as np

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
NUMBERS = {
    "BOOL": "?",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
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


def rows(contract: Contract, body: bytes, head_bytes: bytes, most_rows: int) -> tuple[Rows, Asked]:
    """The rows of an inference request, and what else it asks.

    :param head_bytes: the header Inference-Header-Content-Length, empty where all is JSON.
    :raises Problem: 400, 422.
    """
    length = len(body)
    if head_bytes:
        # Python reads no number of thousands of digits.
        length = int(head_bytes) if head_bytes.isdigit() and len(head_bytes) < 20 else -1
        if not 0 < length <= len(body):
            raise Problem(400, "malformed", "Inference-Header-Content-Length does not fit.")
    request = parse_json(body[:length])
    inputs = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(inputs, list) or not 0 < len(inputs) <= MOST_TENSORS:
        raise violated([violation("inputs", None, None, "is no list of tensors")])
    columns, rest = {}, memoryview(body)[length:]
    for tensor in inputs:
        values, shape, rest = _values(tensor, rest)
        if len(shape) == 2 and shape[1] == len(contract.columns) and len(inputs) == 1:
            table = [values[at :: shape[1]] for at in range(shape[1])]
            columns = dict(zip(contract.names, table, strict=True))
        elif tensor["name"] in columns:
            raise violated([violation(tensor["name"], None, None, "is there twice")])
        elif len(shape) == 1 or shape[1] == 1:
            columns[tensor["name"]] = values
        else:
            raise violated([violation(tensor["name"], None, shape, "is no shape of a column")])
    if rest:
        reason = f"leave {len(rest)} bytes of binary data over"
        raise violated([violation("inputs", None, None, reason)])
    asked = Asked(_id(request), _outputs(request))
    return read(contract, columns, most_rows), asked


def _id(request: dict) -> str:
    given = request.get("id", "")
    if not isinstance(given, str):
        raise violated([violation("id", None, None, "is no text")])
    return given


def _outputs(request: dict) -> list[str]:
    outputs = request.get("outputs", [])
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


def _values(tensor: Any, rest: memoryview) -> tuple[list, list, memoryview]:
    """A tensor's values in row-major order, its shape, and what follows it in binary."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise violated([violation("inputs", None, None, "holds a tensor without name")])
    shape, kind = tensor.get("shape"), tensor.get("datatype")
    if (
        not isinstance(shape, list)
        or len(shape) not in (1, 2)
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        raise violated([violation(tensor["name"], None, shape, "is no shape of a column")])
    if kind not in (*NUMBERS, "BYTES"):
        raise violated([violation(tensor["name"], None, kind, "is no datatype of a column")])
    parameters = tensor.get("parameters", {})
    if not isinstance(parameters, dict):
        raise violated([violation(tensor["name"], None, None, "has parameters that are no object")])
    size = parameters.get("binary_data_size")
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(rest):
            raise violated([violation(tensor["name"], None, size, "is no binary_data_size")])
        values, rest = _from_binary(tensor["name"], kind, rest[:size]), rest[size:]
    else:
        values = _flat(tensor.get("data"))
    if len(values) != math.prod(shape):
        raise violated(
            [violation(tensor["name"], None, shape, f"does not fit {len(values)} values")]
        )
    return values, shape, rest


def _flat(data: Any) -> list:
    """Values that may be nested, as the protocol allows, one level deep."""
    if not isinstance(data, list):
        raise violated([violation("inputs", None, None, "holds a tensor without data")])
    if data and all(isinstance(row, list) for row in data):
        return [value for row in data for value in row]
    return data


def _from_binary(name: str, kind: str, content: memoryview) -> list:
    try:
        if kind == "BYTES":
            return _texts(content)
        return np.frombuffer(content, NUMBERS[kind]).tolist()
    except ValueError:  # also of a text that is not UTF-8
        reason = "is no datatype of its binary data"
        raise violated([violation(name, None, kind, reason)]) from None


def _texts(content: memoryview) -> list[str]:
    """Texts, each after its length in four bytes."""
    texts, at = [], 0
    while at < len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "little")
        if end > len(content):
            raise ValueError
        texts.append(bytes(content[at + 4 : end]).decode())
        at = end
    return texts


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
