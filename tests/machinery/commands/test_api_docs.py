"""docs/api.md names every limit, every code of a problem and every metric of the API."""

import re

from conftest import CHECKOUT, PACKAGE

from iris_flower_prediction.settings import Api

PAGE = (CHECKOUT / "docs" / "api.md").read_text("utf-8")
SOURCES = {path.name: path.read_text("utf-8") for path in CHECKOUT.glob(f"src/{PACKAGE}/api/*.py")}


def rows(heading: str) -> list[list[str]]:
    """The cells of every row of the tables below a heading whose first cell is code."""
    lines = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:3] == "| `"]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_every_limit_is_there_with_its_default():
    told = {name: float(cells[1]) for cells in rows("Limits") for name in names(cells[0])}
    limits = {name: field.default for name, field in Api.model_fields.items()}
    assert told == {name: limits[name] for name in told}
    bounds = {name for name in limits if name.startswith("max_") or name.endswith("_seconds")}
    assert told.keys() == bounds - {"reload_seconds"}


def test_every_code_of_a_problem_is_there_with_its_status():
    told = {
        (code, status)
        for cells in rows("What is wrong with a request")
        for code in names(cells[0])
        for status in re.findall(r"\d+", cells[1])
    }
    pattern = r'Problem\(\s*(\d+),\s*"(\w+)"'
    found = {(m[2], m[1]) for text in SOURCES.values() for m in re.finditer(pattern, text)}
    # What FastAPI refuses by itself.
    assert told == found | {("path", "404"), ("method", "405")}


def test_every_metric_is_there():
    told = [name for cells in rows("Metrics") for name in names(cells[0])]
    of_monitoring = (CHECKOUT / "src" / PACKAGE / "pipelines" / "gauges.py").read_text("utf-8")
    source = SOURCES["metrics.py"] + of_monitoring
    pattern = r'(?:gauge|counter|histogram|GaugeMetricFamily)\(\s*"(\w+)"'
    made = re.findall(pattern, source)
    assert sorted(told) == sorted(set(made))
