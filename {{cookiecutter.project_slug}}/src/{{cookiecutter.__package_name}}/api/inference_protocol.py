"""The Open Inference Protocol, version 2, which clients of KServe, Seldon and Triton use.

Each tensor is a column of the contract, of shape (rows) or (rows, 1). Or a single tensor of shape
(rows, columns) holds all columns in the contract's order. Tensors are sent as JSON.
"""

import math
from typing import Annotated, Literal

import msgspec

from ..contract import CONTRACT
from ..schema.columns import Column
from .problems import Problem
from .serving import Predictions
from .values import Rows, broken, is_unicode, read
from .wire import parse_json, typed, unknown_model

DATATYPES = {"float": "FP64", "integer": "INT64", "boolean": "BOOL"}
MOST_TENSORS = 10_000
PREDICTIONS, PROBABILITIES = "predictions", "probabilities"
Size = Annotated[int, msgspec.Meta(ge=0)]
Datatype = Literal[
    *("BOOL", "BYTES", "FP16", "FP32", "FP64"),
    *(f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)),
]


class Tensor(msgspec.Struct):
    """Values in row-major order, which may be nested one level deep."""

    name: str
    shape: Annotated[list[Size], msgspec.Meta(min_length=1, max_length=2)]
    datatype: Datatype
    data: list


class Output(msgspec.Struct):
    """What a request asks for."""

    name: Literal[PREDICTIONS, PROBABILITIES]


class InferenceRequest(msgspec.Struct):
    """Without ``outputs`` all of them are asked for."""

    inputs: Annotated[list[Tensor], msgspec.Meta(min_length=1, max_length=MOST_TENSORS)]
    id: str | None = None
    outputs: list[Output] | None = None


class InferenceResponse(msgspec.Struct, omit_defaults=True):
    """A tensor for each output."""

    model_name: str
    model_version: str
    outputs: list[Tensor]
    id: str | None = None


def datatype(column: Column) -> str:
    return "INT64" if column.numbered else DATATYPES.get(column.type, "BYTES")


def metadata(served) -> dict:
    """What GET /v2/models/{name} answers."""
    outputs = [(PREDICTIONS, datatype(CONTRACT.target))]
    if served.model.metadata[PROBABILITIES]:
        outputs.append((PROBABILITIES, "FP64"))
    inputs = [(column.name, datatype(column)) for column in CONTRACT.columns]
    of_any_length = {"shape": [-1]}
    of_onnx = served.model.metadata["artifact"].endswith(".onnx")
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": "onnxruntime_onnx" if of_onnx else "python",
        "inputs": [{"name": name, "datatype": kind} | of_any_length for name, kind in inputs],
        "outputs": [{"name": name, "datatype": kind} | of_any_length for name, kind in outputs],
    }


def request(body: bytes) -> InferenceRequest:
    """:raises Problem: 400, 422."""
    asked = typed(parse_json(body), InferenceRequest)
    if asked.id and not is_unicode(asked.id):  # the answer repeats it
        raise broken("id: it holds half a character")
    return asked


def rows(asked: InferenceRequest, served, most_rows: int) -> Rows:
    """:raises Problem: 422."""
    wanted = {output.name for output in asked.outputs or ()}
    if PROBABILITIES in wanted and not served.model.metadata[PROBABILITIES]:
        raise broken("outputs: the model has no probabilities")
    columns = {}
    for tensor in asked.inputs:
        values, shape = _values(tensor), tensor.shape
        if len(shape) == 2 and shape[1] == len(CONTRACT.columns) and len(asked.inputs) == 1:
            table = [values[at :: shape[1]] for at in range(shape[1])]
            columns = dict(zip(CONTRACT.names, table, strict=True))
        elif tensor.name in columns:
            raise broken("is there twice", tensor.name)
        elif len(shape) == 1 or shape[1] == 1:
            columns[tensor.name] = values
        else:
            raise broken("is no shape of a column", tensor.name, None, shape)
    return read(CONTRACT, columns, most_rows)


def _values(tensor: Tensor) -> list:
    values, sizes = tensor.data, {len(row) for row in tensor.data if isinstance(row, list)}
    if sizes and all(isinstance(row, list) for row in values):
        fits = [len(values), *sizes] == tensor.shape
        values = [value for row in values for value in row]
    else:
        fits = len(values) == math.prod(tensor.shape)
    if not fits:
        reason = f"does not fit {len(values)} values in {len(tensor.data)} rows"
        raise broken(reason, tensor.name, None, tensor.shape)
    return values


def answer(asked: InferenceRequest, served, found: Predictions) -> InferenceResponse:
    wanted = [output.name for output in asked.outputs or ()]
    given = (
        (PREDICTIONS, datatype(CONTRACT.target), found.predictions),
        (PROBABILITIES, "FP64", found.probabilities),
    )
    outputs = [
        Tensor(name, [len(values)], kind, values)
        for name, kind, values in given
        if values is not None and (not wanted or name in wanted)
    ]
    return InferenceResponse(served.name, served.version, outputs, asked.id or None)


def require(name: str, version: str | None, served) -> None:
    """:raises Problem: 404, another model or version."""
    if name != served.name:
        raise unknown_model(name, served.name)
    if version is not None and version != served.version:
        detail = f"version {version[:100]!r} does not serve, only {served.version!r}."
        raise Problem(404, "unknown_model", detail)
