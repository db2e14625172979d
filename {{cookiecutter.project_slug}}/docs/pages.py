"""Writes what follows from the contract into the pages, between their marks: `make docs`.

{% if cookiecutter.deployment_flavor == "batch" -%}
``--check`` only says which pages are outdated.
{%- else -%}
``--check`` only says which pages are outdated. Values are the ``example`` of each column, or the
middle of its range. Numbers in an answer show its shape only.
{%- endif %}
"""

{% if cookiecutter.deployment_flavor != "batch" -%}
import json
{% endif -%}
import re
{% if cookiecutter.deployment_flavor != "batch" -%}
import shlex
{% endif -%}
import sys
from pathlib import Path

{% if cookiecutter.deployment_flavor != "batch" -%}
from {{ cookiecutter.__package_name }}.api import openapi
{% endif -%}
from {{ cookiecutter.__package_name }}.contract import CONTRACT
{%- if cookiecutter.deployment_flavor != "batch" %}
from {{ cookiecutter.__package_name }}.settings import PACKAGE
{%- endif %}

FOLDER = Path(__file__).parent
{%- if cookiecutter.deployment_flavor == "batch" %}
PAGES = (FOLDER / "contract.md",)
{%- else %}
PAGES = (FOLDER.parent / "README.md", FOLDER / "api.md", FOLDER / "contract.md")
{%- endif %}
MARKED = re.compile(r"(<!-- (\w+) of the contract: make docs -->\n).*?(<!-- end -->)", re.S)
{%- if cookiecutter.deployment_flavor != "batch" %}
URL = "http://127.0.0.1:8000"
ROWS = "data/raw/rows.csv"
WIDTH = 90
TARGET = CONTRACT.target
PREDICTION = openapi.example_of(TARGET)
PREDICTIONS = {"predictions": [PREDICTION]}
{%- endif %}


def main(check: bool) -> int:
    """Write the pages, or check them; returns 1 if a check finds an outdated page."""
    outdated = False
    for page in PAGES:
        old = page.read_text("utf-8")
        new = MARKED.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[3], old)
        if new != old:
            outdated = True
            print(f"{page} {'is outdated: make docs' if check else 'is updated'}")
            if not check:
                page.write_text(new, "utf-8", newline="\n")
    return int(check and outdated)


def table() -> str:
    """The columns."""
    return CONTRACT.markdown() + "\n"


{% if cookiecutter.deployment_flavor != "batch" -%}
def request() -> str:
    """One row, and its prediction."""
    return ask("/predict", openapi.predict_body()) + shown(PREDICTIONS)


def detail() -> str:
    """The same with all that is known of the prediction."""
    answer = dict(PREDICTIONS)
    if TARGET.classes:
        other = round(0.1 / max(1, TARGET.classes - 1), 4)
        classes = zip(TARGET.class_names, TARGET.allowed or (False, True), strict=True)
        answer["probabilities"] = [0.9]
        answer["class_probabilities"] = {
            name: [0.9 if value == PREDICTION else other] for name, value in classes
        }
    answer["model"] = {"name": PACKAGE, "version": "1"}
    return ask("/predict?detail=true", openapi.predict_body()) + shown(answer)


def problem() -> str:
    """A request without its first column, and the answer."""
    body, name = openapi.predict_body(), CONTRACT.names[0]
    del content(body)["data"][name]
    answer = {
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
    return ask("/predict", body) + shown(answer)


def rows() -> str:
    """A row as csv."""
    text = content(openapi.invocations_body(), "text/csv")
    send = f'curl {URL}/invocations --header "Content-Type: text/csv" --data-binary @{ROWS}'
    return f"```bash\ncat > {ROWS} <<'END'\n{text}END\n{send}\n```\n\n" + shown(PREDICTIONS)


def tensors() -> str:
    """A row as the tensors of the Open Inference Protocol."""
    return ask(f"/v2/models/{PACKAGE}/infer", openapi.inference_body())


def ask(path: str, body: dict) -> str:
    example = shlex.quote("\n" + written(content(body)))
    header = '--header "Content-Type: application/json"'
    return f'```bash\ncurl "{URL}{path}" {header} --data {example}\n```\n\n'


def shown(answer: dict) -> str:
    return f"```json\n{written(answer)}\n```\n"


def content(body: dict, kind: str = "application/json"):
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


{% endif -%}
{% if cookiecutter.deployment_flavor == "batch" -%}
BLOCKS = {"table": table}
{%- else -%}
BLOCKS = {each.__name__: each for each in (table, request, detail, problem, rows, tensors)}
{%- endif %}

if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
