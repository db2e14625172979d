"""Requests and answers for the pages, made from the contract; `make docs` writes them there.

Values are the ``example`` of each column. Numbers in an answer show its shape only.
"""

import json
import shlex

from {{ cookiecutter.__package_name }}.api import openapi
from {{ cookiecutter.__package_name }}.contract import CONTRACT
from {{ cookiecutter.__package_name }}.settings import PACKAGE

URL = "http://127.0.0.1:8000"
ROWS = "data/raw/rows.csv"
WIDTH = 90
TARGET = CONTRACT.target
PREDICTION = openapi.example_of(TARGET)
PREDICTIONS = {"predictions": [PREDICTION]}


def predict() -> None:
    """One row, and its prediction."""
    ask("/predict", openapi.predict_body())
    show(PREDICTIONS)


def detail() -> None:
    """The same with all that is known of the prediction."""
    ask("/predict?detail=true", openapi.predict_body())
    answer = dict(PREDICTIONS)
    if TARGET.classes:
        other = round(0.1 / max(1, TARGET.classes - 1), 4)
        classes = zip(TARGET.class_names, TARGET.allowed or (False, True), strict=True)
        answer["probabilities"] = [0.9]
        answer["class_probabilities"] = {
            name: [0.9 if value == PREDICTION else other] for name, value in classes
        }
    show(answer | {"model": {"name": PACKAGE, "version": "1"}})


def missing() -> None:
    """A request without its first column, and the problem that it gets."""
    body = openapi.predict_body()
    name = CONTRACT.names[0]
    del content(body, "application/json")["data"][name]
    ask("/predict", body)
    show(
        {
            "type": "about:blank",
            "title": "Unprocessable Entity",
            "status": 422,
            "detail": f"column {name} is missing.",
            "instance": "/predict",
            "code": "contract",
            "request_id": "829156aa3e3a-00000004",
            "violations": [{"column": name, "index": None, "value": None, "reason": "is missing"}],
            "violations_total": 1,
        }
    )


def csv() -> None:
    """A row as csv."""
    rows = content(openapi.invocations_body(), "text/csv")
    send = f'curl {URL}/invocations --header "Content-Type: text/csv" --data-binary @{ROWS}'
    print(f"```bash\ncat > {ROWS} <<'END'\n{rows}END\n{send}\n```\n")
    show(PREDICTIONS)


def tensors() -> None:
    """A row as the tensors of the Open Inference Protocol."""
    ask(f"/v2/models/{PACKAGE}/infer", openapi.inference_body())


def ask(path: str, body: dict) -> None:
    example = shlex.quote("\n" + written(content(body, "application/json")))
    header = '--header "Content-Type: application/json"'
    print(f'```bash\ncurl "{URL}{path}" {header} --data {example}\n```\n')


def show(answer: dict) -> None:
    print(f"```json\n{written(answer)}\n```")


def content(body: dict, kind: str):
    return body["requestBody"]["content"][kind]["example"]


def written(value, indent: str = "") -> str:
    """JSON, with a line for each member of what is long or holds objects."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list):
        return flat
    members = value.values() if isinstance(value, dict) else value
    if len(flat) <= WIDTH and not any(isinstance(each, dict) for each in members):
        return flat
    inner = indent + " "
    if isinstance(value, list):
        return "[" + f",\n{inner}".join(written(each, inner) for each in value) + "]"
    named = (f"{json.dumps(name)}: {written(each, inner)}" for name, each in value.items())
    return "{" + f",\n{inner}".join(named) + "}"
