"""The OpenAPI document: FastAPI's own, and the requests and answers that the contract describes.

``openapi`` writes it to docs/openapi.json. It refuses to where a client of the committed document
would break, unless the contract has a new version.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import CONTRACT
from ..errors import ProjectError
from ..schema import Contract
from ..schema.columns import Column
from ..settings import PACKAGE, Settings, load, root
from .inference_protocol import NUMBERS, OUTPUTS, datatype

PROBLEMS = {
    400: "The body cannot be read.",
    401: "The credentials are missing or wrong.",
    404: "There is no such model.",
    405: "Another method is needed.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is of another media type.",
    422: "The contract is broken; the violations say where.",
    429: "This client asks too often.",
    503: "Too much is at work, or there is no answer in time.",
}
JSON_TYPES = {"float": "number", "integer": "integer", "boolean": "boolean"}
PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "violations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "column": {"type": ["string", "null"]},
                    "index": {"type": ["integer", "null"]},
                    "value": {},
                    "reason": {"type": "string"},
                },
            },
        },
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, default=root() / "docs" / "openapi.json")


def run(arguments: argparse.Namespace) -> int:
    new, file = document(load()), arguments.file
    if file.exists():
        try:
            old = json.loads(file.read_text("utf-8"))
            broken, version = breaking(old, new), old["info"]["version"]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ProjectError(f"{file}: describes no API of this kind; remove it first.") from None
        if broken and version == new["info"]["version"]:
            raise ProjectError(
                f"{'; '.join(broken)}: clients would break. Raise the version in contract.py."
            )
    file.write_text(text(new), "utf-8")
    print(file)
    return 0


def text(document: dict) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def document(config: Settings) -> dict:
    """The document of the API as ``config`` sets it up."""
    from fastapi.openapi.utils import get_openapi

    from .routes import routes

    found = get_openapi(
        title=PACKAGE,
        version=CONTRACT.version,
        description="Predictions of a model, under a contract.",
        routes=routes(None).routes,
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(_schemas(CONTRACT, config.api.max_rows))
    found["paths"] |= {"/predict": {"post": _predict()}, "/invocations": {"post": _invocations()}}
    _complete(found, config)
    found["paths"] = dict(sorted(found["paths"].items()))
    return found


def _complete(found: dict, config: Settings) -> None:
    """What every operation has: the problems it may answer with, and who may call it."""
    from .guard import OPEN

    found["components"]["securitySchemes"] = {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    anybody = [] if config.authentication.required else [{}]
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] == "name":
                    parameter["example"] = PACKAGE
            if path.endswith("/infer"):
                operation["requestBody"] = _body({"application/json": _inference()})
            if path in OPEN:
                codes = [503] if path.endswith("ready") or path == "/ping" else []
            else:
                operation["security"] = [*anybody, {"ApiKey": []}, {"Bearer": []}]
                codes = list(PROBLEMS) if method == "post" else [401, 404, 429, 503]
            for code in codes:
                operation["responses"][str(code)] = {
                    "description": PROBLEMS[code],
                    "content": {"application/problem+json": {"schema": _ref("Problem")}},
                }


def _ref(name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(contract: Contract, most_rows: int) -> dict:
    properties = {
        column.name: {"type": "array", "items": schema(column), "maxItems": most_rows}
        | ({"description": told} if (told := describe(column)) else {})
        | ({"examples": [[column.example]]} if column.example is not None else {})
        for column in contract.inputs
    }
    example = {c.name: [example_of(c)] for c in contract.columns}
    rows = {
        "type": "object",
        "description": "Columns of equal length, a value for each row.",
        "properties": properties,
        "required": contract.names,
        "additionalProperties": False,
    }
    request = {
        "type": "object",
        "properties": {
            "model": {"type": ["string", "null"], "description": "The one that serves, if given."},
            "data": _ref("Rows"),
        },
        "required": ["data"],
        "additionalProperties": False,
        "examples": [{"model": PACKAGE, "data": example}],
    }
    target = schema(contract.target)
    answer = {
        "type": "object",
        "properties": {
            "predictions": {"type": "array", "items": target},
            "probabilities": {"type": "array", "items": {"type": "number"}},
            "model": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
            },
        },
        "required": ["predictions"],
    }
    return {"Rows": rows, "PredictRequest": request, "Predictions": answer, "Problem": PROBLEM}


def schema(column: Column) -> dict:
    """The JSON schema of one value of a column."""
    if column.allowed:
        return {"enum": [*column.allowed, *([None] if column.nullable else [])]}
    kind: Any = JSON_TYPES.get(column.type, "string")
    found: dict[str, Any] = {"type": [kind, "null"] if column.nullable else kind}
    if column.type == "date":
        found["format"] = "date"
    if column.type in ("float", "integer"):
        low, high = column.drawn_from
        found |= {} if low is None else {"minimum": low}
        found |= {} if high is None else {"maximum": high}
    return found


def describe(column: Column) -> str:
    return column.description + (f", in {column.unit}" if column.unit else "")


def example_of(column: Column) -> Any:
    """The contract's example, or a value in the middle of what is allowed."""
    if column.example is not None:
        return column.example
    low, high = column.drawn_from
    code = (low or 0.0) if high is None else ((low or 0.0) + high) / 2
    value = column.decode(np.array([code]))[0]
    return str(value) if column.type == "date" else value.item()


def _predict() -> dict:
    return {
        "summary": "Predictions for rows, given as columns",
        "tags": ["predictions"],
        "operationId": "predict",
        "parameters": [
            {
                "name": "detail",
                "in": "query",
                "schema": {"type": "boolean", "default": False},
                "description": "Also the probability of each prediction, and the model's version.",
            }
        ],
        "requestBody": _body({"application/json": _ref("PredictRequest")}),
        "responses": {"200": _answer("Predictions")},
    }


def _invocations() -> dict:
    split = {"columns": CONTRACT.names, "data": [[example_of(c) for c in CONTRACT.columns]]}
    inputs = {
        "type": "object",
        "description": "One of dataframe_split, dataframe_records, instances and inputs.",
        "properties": {
            "dataframe_split": {"type": "object"},
            "dataframe_records": {"type": "array", "items": {"type": "object"}},
            "instances": {},
            "inputs": {},
        },
        "examples": [{"dataframe_split": split}],
    }
    return {
        "summary": "The same as MLflow, SageMaker and Azure ML ask it",
        "tags": ["predictions"],
        "operationId": "invocations",
        "requestBody": _body({"application/json": inputs, "text/csv": {"type": "string"}}),
        "responses": {"200": _answer("Predictions")},
    }


def _inference() -> dict:
    """A request of the Open Inference Protocol."""
    tensors = [
        {"name": column.name, "shape": [1], "datatype": datatype(column), "data": [value]}
        for column in CONTRACT.columns
        for value in [example_of(column)]
    ]
    tensor = {
        "type": "object",
        "description": "A column of the contract, or all of them in its order.",
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"enum": [*NUMBERS, "BYTES"]},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
        "required": ["name", "shape", "datatype"],
    }
    outputs = {"type": "object", "properties": {"name": {"enum": list(OUTPUTS)}}}
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": "array", "items": outputs | {"required": ["name"]}},
        },
        "required": ["inputs"],
        "examples": [{"inputs": tensors}],
    }


def _body(kinds: dict[str, dict]) -> dict:
    return {"required": True, "content": {kind: {"schema": s} for kind, s in kinds.items()}}


def _answer(name: str) -> dict:
    content = {"application/json": {"schema": _ref(name)}}
    return {"description": "A prediction for each row.", "content": content}


def breaking(old: dict, new: dict) -> list[str]:
    """What a client of the old document could no longer do, a phrase for each."""
    before, after = _operations(old), _operations(new)
    found = [f"{operation} is gone" for operation in before if operation not in after]
    before, after = (each["components"]["schemas"] for each in (old, new))
    columns, now = before["Rows"]["properties"], after["Rows"]["properties"]
    found += [f"column {name} is gone" for name in columns if name not in now]
    found += [
        f"column {name} is required"
        for name in after["Rows"]["required"]
        if name not in before["Rows"]["required"]
    ]
    for name in columns.keys() & now.keys():
        if reason := _narrower(columns[name]["items"], now[name]["items"]):
            found.append(f"column {name} {reason}")
    predicted = [
        each["Predictions"]["properties"]["predictions"]["items"] for each in (after, before)
    ]
    if _narrower(*predicted):
        found.append("the prediction takes values that it did not")
    return sorted(found)


def _operations(document: dict) -> list[str]:
    return [
        f"{method.upper()} {path}" for path, each in document["paths"].items() for method in each
    ]


def _narrower(old: dict, new: dict) -> str:
    """Why ``new`` takes less than ``old``, or an empty text."""
    if "enum" in old:
        lost = [value for value in old["enum"] if not _allows(new, value)]
        return f"no longer allows {', '.join(json.dumps(v) for v in lost)}" if lost else ""
    if "enum" in new:
        return f"allows nothing but {', '.join(json.dumps(v) for v in new['enum'])}"
    was, now = _types(old), _types(new)
    if was - now == {"null"}:
        return "can no longer be missing"
    if not was <= now or old.get("format") != new.get("format"):
        return "is of another type"
    if new.get("minimum", float("-inf")) > old.get("minimum", float("-inf")):
        return "has a higher minimum"
    if new.get("maximum", float("inf")) < old.get("maximum", float("inf")):
        return "has a lower maximum"
    return ""


def _allows(schema: dict, value: Any) -> bool:
    """Whether a text, a whole number or null is among what a schema takes."""
    if "enum" in schema:
        return value in schema["enum"]
    kind = {str: "string", int: "integer"}.get(type(value), "null")
    if kind not in _types(schema) or (kind == "string" and "format" in schema):
        return False
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    return kind != "integer" or low <= value <= high


def _types(schema: dict) -> set[str]:
    kinds = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
    return kinds | ({"integer"} if "number" in kinds else set())
