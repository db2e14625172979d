"""One meaning of every value: what JSON holds is read as what the batch job's tables hold."""

import json
import random
from datetime import date, timedelta

import numpy as np
import pytest

from iris_flower_prediction.api import inference_protocol, mlflow_protocol
from iris_flower_prediction.api.problems import Problem
from iris_flower_prediction.api.values import MOST_VIOLATIONS, broken, encode, read
from iris_flower_prediction.schema import Column, Contract
from iris_flower_prediction.schema.arrow import as_batch

LOW, HIGH = date(1969, 12, 1), date(2024, 2, 29)
KINDS = {
    "float": {"type": "float", "minimum": -2.5, "maximum": 1e6},
    "any_float": {"type": "float"},
    "integer": {"type": "integer", "minimum": -1.5, "maximum": 100.5},
    "any_integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "texts": {"type": "category", "allowed": ("low", "high")},
    "numbers": {"type": "category", "allowed": (20, 1, -1)},
    "date": {"type": "date", "minimum": LOW, "maximum": HIGH},
}
VALID = {
    "float": lambda random: random.choice([-2.5, 1e6, 3, random.uniform(-2.5, 1e6)]),
    "any_float": lambda random: random.choice([0.1, -1e-50, 3e38, random.gauss(0, 1e9)]),
    "integer": lambda random: random.randint(-1, 100),
    "any_integer": lambda random: random.choice([2**24, -(2**24), random.randint(-9, 9)]),
    "boolean": lambda random: random.random() < 0.5,
    "texts": lambda random: random.choice(["low", "high"]),
    "numbers": lambda random: random.choice([20, 1, -1]),
    "date": lambda random: str(LOW + timedelta(random.randint(0, (HIGH - LOW).days))),
}
INVALID = {
    "float": [-2.6, 1e7, float("inf")],
    "any_float": [1e39, -1e39, float("-inf")],
    "integer": [-2, 101, 1.5],
    "any_integer": [2**24 + 1, 2**60, -0.5],
    "boolean": [2, -1],
    "texts": ["LOW", "?"],
    "numbers": [0, 30, 2],
    "date": ["1969-11-30", "2024-03-01", "2023-02-29", "soon"],
}
KEY = Column("ID", "text")
CONTRACT = Contract(
    "1.0.0",
    tuple(
        Column(f"{name}{suffix}", nullable=bool(suffix), **options)
        for name, options in KINDS.items()
        for suffix in ("", "_or_null")
    ),
    Column("TARGET", "float"),
    KEY,
)


def kind(name):
    return name.removesuffix("_or_null")


def valid_rows(seed, count=200):
    """Columns of random values that keep CONTRACT."""
    source = random.Random(seed)  # noqa: S311
    columns = {"ID": [f"é{row}" for row in range(count)]}
    for column in CONTRACT.columns:
        draw = VALID[kind(column.name)]
        values = [draw(source) for _ in range(count)]
        columns[column.name] = [
            None if column.nullable and source.random() < 0.2 else value for value in values
        ]
    return columns


def spoil(columns, seed, share=0.1):
    """Breaks some values; returns the places, (row, column)."""
    source, broken = random.Random(seed), set()  # noqa: S311
    for column in CONTRACT.columns:
        bad = [*INVALID[kind(column.name)], *([] if column.nullable else [None])]
        values = columns[column.name]
        if column.type == "boolean":
            values[:] = [None if value is None else int(value) for value in values]
        for row in range(len(values)):
            if source.random() < share:
                values[row] = source.choice(bad)
                broken.add((row, column.name))
    return broken


def violations(contract, columns, **options):
    with pytest.raises(Problem) as refused:
        read(contract, columns, 1000, **options)
    assert refused.value.code == "contract"
    return refused.value.more


@pytest.mark.parametrize("seed", range(5))
def test_valid_rows_are_the_same_matrix_as_the_batch_job_reads(seed):
    columns = valid_rows(seed)
    found = read(CONTRACT, columns, 1000)
    checked = CONTRACT.check(as_batch(columns))
    assert checked.valid.all()
    assert found.matrix.dtype == np.float32
    np.testing.assert_array_equal(found.matrix, checked.matrix)
    assert found.columns["ID"] == checked.keys.to_pylist()


@pytest.mark.parametrize("seed", range(5))
def test_invalid_values_are_the_same_as_the_batch_job_refuses(seed, monkeypatch):
    monkeypatch.setattr("iris_flower_prediction.api.values.MOST_VIOLATIONS", 10**6)
    columns = valid_rows(seed)
    broken = spoil(columns, seed)
    found = violations(CONTRACT, columns)
    reasons = {(each["index"], each["column"]): each["reason"] for each in found["violations"]}
    assert reasons.keys() == broken
    table = CONTRACT.check(as_batch(columns)).violations.to_pylist()
    assert reasons == {(each["row"], each["column"]): each["reason"] for each in table}


CELLS = {
    "float": [" 1.5 ", "1e3", "", "1,5", "abc", "0x10", "true", "-0"],
    "integer": ["7", " 7.0", "7.5", "", "x", "1e2"],
    "boolean": ["true", "FALSE", "1", "0", "", "yes", "2"],
    "texts": ["low", " high ", "LOW", ""],
    "numbers": ["20", "1.0", "30", "x", ""],
    "date": ["2020-02-29", " 1970-01-01 ", "2021-02-29", "20", "soon", "", "2020-01-01x"],
}


@pytest.mark.parametrize("value", [True, [], {}, "", 5, "2020-01-01x", "1", [1], {"a": 1}])
@pytest.mark.parametrize("name", KINDS)
def test_a_value_of_another_type_is_a_violation_and_no_error(name, value):
    column = Column("X", **KINDS[name])
    _, unreadable = encode(column, [value])
    fits = {
        "boolean": isinstance(value, bool) or value == 5,
        **dict.fromkeys(("float", "any_float", "integer", "any_integer"), type(value) is int),
        # A blank text is a missing one, as in a file.
        **dict.fromkeys(("texts", "numbers", "date"), value == ""),
    }
    assert unreadable.any() != fits.get(name, False)


@pytest.mark.parametrize("type", ["text", "integer"])
def test_a_key_may_be_left_out_but_not_be_anything(type):
    contract = Contract("1.0.0", (Column("X", "float"),), Column("Y", "float"), Column("ID", type))
    good, bad = {"text": ("a\0b", 5), "integer": (2**70, "5")}[type]
    assert read(contract, {"X": [1]}, 1).columns == {"X": [1]}
    assert read(contract, {"X": [1], "ID": [good]}, 1).columns["ID"] == [good]
    for value in (bad, None, True, 1.0, [], "\ud800"):
        (found,) = violations(contract, {"X": [1], "ID": [value]})["violations"]
        assert (found["column"], found["index"]) == ("ID", 0)


def test_thousands_of_unknown_columns_are_counted_and_only_some_of_them_compared(monkeypatch):
    compared = []
    monkeypatch.setattr(
        "iris_flower_prediction.api.values.difflib.get_close_matches",
        lambda name, others, *_: compared.append(len(others)) or [],
    )
    found = violations(CONTRACT, {f"X{i}": [] for i in range(5000)})
    assert found["violations_total"] == 5000 + len(CONTRACT.columns)
    assert len(compared) <= MOST_VIOLATIONS + len(CONTRACT.columns)
    assert max(compared) <= MOST_VIOLATIONS


def test_columns_the_contract_does_not_know_can_be_left_out():
    contract = Contract("1.0.0", (Column("X", "float"),), Column("Y", "float"))
    assert violations(contract, {"X": [1], "Z": 5})["violations"][0]["column"] == "Z"
    assert read(contract, {"X": [1], "Z": 5}, 1, strict=False).columns == {"X": [1]}


def test_a_column_that_is_named_twice_is_refused():
    name = CONTRACT.names[0]
    for body in (f"{name},{name}\n1,2\n".encode(), f"{name},X,X\n1,2,3\n".encode()):
        with pytest.raises(Problem) as refused:
            mlflow_protocol.rows(CONTRACT, "text/csv", body, 10)
        assert refused.value.more["violations"][0]["reason"] == "is there twice"
    tensor = {"name": name, "shape": [1], "datatype": "FP64", "data": [1]}
    body = json.dumps({"inputs": [tensor, tensor]}).encode()
    with pytest.raises(Problem) as refused:
        inference_protocol.rows(inference_protocol.request(body), None, 10)
    assert refused.value.more["violations"][0]["reason"] == "is there twice"


@pytest.mark.parametrize(
    ("value", "told"), [(True, "true"), (None, "null"), ("é", '"é"'), (1.5, "1.5"), ([1], '"[1]"')]
)
def test_a_sentence_tells_a_value_as_json_has_it(value, told):
    problem = broken("is wrong", "A", 0, value)
    assert problem.detail == f"column A, index 0: {told} is wrong."
