"""The description of the API: FastAPI's own, with the types that a request is decoded by."""

import csv
import io
from typing import Any

import msgspec
import numpy as np
from fastapi import FastAPI

from ..contract import CONTRACT
from ..schema.columns import Column
from ..settings import PACKAGE, Settings
from .inference_protocol import InferenceRequest, InferenceResponse, datatype
from .problems import CONTENT_TYPE, ProblemBody
from .wire import Answer, PredictRequest, written

CODES = {
    400: "The body cannot be read.",
    401: "The credentials are missing or wrong.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is of another media type.",
    422: "The contract is broken; the violations say where.",
    503: "Too much is at work, or there is no answer in time.",
}
TYPES = (Answer, InferenceRequest, InferenceResponse, ProblemBody)
REFERENCE = "#/components/schemas/{name}"


def complete(app: FastAPI, config: Settings) -> None:
    """Let the description of an application have our types, and the contract as it is."""
    described = app.openapi

    def openapi() -> dict:
        if app.openapi_schema:  # FastAPI keeps it, and so it is completed once
            return app.openapi_schema
        document = described()
        types = [PredictRequest(CONTRACT, config.api.max_rows).struct, *TYPES]
        _, schemas = msgspec.json.schema_components(types, ref_template=REFERENCE)
        document["components"]["schemas"] = schemas  # and none of FastAPI's own
        document["info"]["x-contract"] = CONTRACT.describe()
        if not config.authentication.required:
            for operations in document["paths"].values():
                for operation in operations.values():
                    if "security" in operation:
                        operation["security"].insert(0, {})
        return document

    app.openapi = openapi


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What an operation may answer beside its predictions."""
    content = {CONTENT_TYPE: {"schema": reference(ProblemBody.__name__)}}
    return {code: {"description": CODES[code], "content": content} for code in codes or CODES}


def answer(kind: type) -> dict:
    """A good answer of such a type."""
    content = {"application/json": {"schema": reference(kind.__name__)}}
    return {200: {"description": "A prediction for each row.", "content": content}}


def reference(name: str) -> dict:
    return {"$ref": REFERENCE.format(name=name)}


def body(example: Any, schema: dict, **others: dict) -> dict:
    """The body of a request, for ``openapi_extra``."""
    kinds = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": kinds | others}}


def predict_body() -> dict:
    example = {"model": PACKAGE, "data": {c.name: [example_of(c)] for c in CONTRACT.columns}}
    return body(example, reference("PredictRequest"))


def invocations_body() -> dict:
    row = [example_of(column) for column in CONTRACT.columns]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([CONTRACT.names, row])
    rows = {"schema": {"type": "string"}, "example": text.getvalue()}
    split = {"dataframe_split": {"columns": CONTRACT.names, "data": [row]}}
    return body(split, {"type": "object"}, **{"text/csv": rows})


def inference_body() -> dict:
    tensors = [
        {"name": column.name, "shape": [1], "datatype": datatype(column), "data": [value]}
        for column in CONTRACT.columns
        for value in [example_of(column)]
    ]
    return body({"inputs": tensors}, reference(InferenceRequest.__name__))


def example_of(column: Column) -> Any:
    """The contract's example, or a value in the middle of what is allowed."""
    if column.example is not None:
        return written(column.example)
    low, high = column.drawn_from
    low = min(0.0, high or 0.0) if low is None else low
    high = max(0.0, low) if high is None else high
    value = column.decode(np.array([(low + high) / 2]))[0]
    return str(value) if column.type == "date" else value.item()
