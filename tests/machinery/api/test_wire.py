"""Bodies of POST /predict: the quick way and the long way read the same, and refuse the same."""

import json
from dataclasses import replace
from datetime import date

import msgspec
import numpy as np
import pytest

from iris_flower_prediction.api import wire
from iris_flower_prediction.api.openapi import example_of
from iris_flower_prediction.api.problems import Problem
from iris_flower_prediction.api.values import read
from iris_flower_prediction.api.wire import PredictRequest, parse_json
from iris_flower_prediction.schema import Column, Contract

TARGET = Column("TARGET", "float")
KINDS = [
    Column("FLOAT", "float", minimum=-2.5, maximum=1e6),
    Column("ANY FLOAT", "float"),
    Column("INTEGER", "integer", minimum=0.5, maximum=100.5),
    Column("ANY-INTEGER", "integer"),
    Column("BOOLEAN", "boolean"),
    Column("TEXTS", "category", allowed=("low", "high")),
    Column("NUMBERS", "category", allowed=(20, 1, -1)),
    Column("DATE", "date", minimum=date(2000, 1, 1), maximum=date(2024, 2, 29)),
    Column("any date", "date"),
]
COLUMNS = [*KINDS, *(replace(c, name=f"{c.name}, or null", nullable=True) for c in KINDS)]
# JSON values as they are written; each is good for some of the columns or for none.
WRITTEN = """
    0 1 -1 2 20 100 101 -2 -2.5 -2.6 1e6 1000000.1 1.0 -0.0 1.5 0.1 1e-400 1e400 -1e39 3.4e38
    16777216 16777217 9007199254740993 18446744073709551616 340282346638528859811704183484516925440
    null true false [] [1] {} "" "1" "true" "low" "high" "LOW" "NaN" "\\ud800" "\\u006cow"
    "2000-01-01" "1999-12-31" "2024-02-29" "2023-02-29" "2024-03-01" "0001-01-01" "9999-12-31"
    "2020-01-01T00:00:00" "2020-01-01T23:59:59+09:00" "2020-01-01x" "20200101" "2020-1-1"
"""
VALUES = [*WRITTEN.split(), "1" + "0" * 400, "-1" + "0" * 400]


# Good values, some of which only the long way knows.
GOOD = {
    "float": ["0.5", "1", "-2.5", "1e6"],
    "integer": ["1", "7", "100", "20"],
    "boolean": ["true", "false", "1", "0"],
    "date": ['"2000-01-01"', '"2024-02-29"', '"2020-02-29"', '"2010-10-10"'],
    "TEXTS": ['"low"', '"high"', '"low"', '"low"'],
    "NUMBERS": ["20", "1", "-1", "20"],
}


def contract(*columns, key=None):
    return Contract("1.0.0", columns, TARGET, key)


def body_of(columns, more=""):
    """A request as text from columns of values as they are written."""
    members = [f"{json.dumps(name)}: [{', '.join(values)}]" for name, values in columns.items()]
    return ('{"data": {' + ", ".join(members) + "}" + more + "}").encode()


def outcome(way, *arguments):
    """What a way of reading gives, as something that can be compared."""
    try:
        rows = way(*arguments)
    except Problem as problem:
        return problem.status, problem.code, problem.detail, problem.more
    return rows.matrix.dtype, rows.matrix.shape, rows.matrix.tolist()


def long_way(contract, body):
    return read(contract, parse_json(body)["data"], 10)


@pytest.fixture
def quick_only(monkeypatch):
    def fail(*_):
        raise AssertionError("read the long way")

    monkeypatch.setattr(wire, "read", fail)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_both_ways_have_the_same_outcome_for_any_value(column):
    agreed = contract(column)
    request = PredictRequest(agreed, 10)
    for value in VALUES:
        body = body_of({column.name: [value] * 2})
        outcomes = outcome(request.read, body, "m"), outcome(long_way, agreed, body)
        np.testing.assert_equal(*outcomes, err_msg=value)


@pytest.mark.parametrize("with_key", [False, True])
def test_good_rows_are_read_the_quick_way(with_key, quick_only):
    agreed = contract(*COLUMNS, key=Column("ID", "text"))
    columns = {}
    for column in COLUMNS:
        first, second, third, fourth = GOOD.get(column.name.split(",")[0]) or GOOD[column.type]
        columns[column.name] = [first, second, third, "null" if column.nullable else fourth]
    columns |= {"ID": ['"a"', '"\\u0000"', '"b"', '"é"']} if with_key else {}
    body = body_of(columns, ', "model": "m"')
    rows = PredictRequest(agreed, 10).read(body, "m")
    np.testing.assert_array_equal(rows.matrix, long_way(agreed, body).matrix)
    assert np.isnan(rows.matrix[3]).sum() == len(KINDS)
    sent = json.loads(wire.msgspec.json.encode(rows.columns))
    assert sent == json.loads(body)["data"]


def test_what_only_the_long_way_reads_is_read_too():
    agreed = contract(Column("X", "integer"), Column("D", "date"))
    body = body_of({"X": ["2.0"], "D": ['"1970-01-02T10:00:00"']})
    assert PredictRequest(agreed, 10).read(body, "m").matrix.tolist() == [[2, 1]]


@pytest.mark.parametrize("type", ["text", "integer"])
def test_a_key_is_the_same_to_both_ways(type):
    agreed = contract(Column("X", "float"), key=Column("ID", type))
    request = PredictRequest(agreed, 10)
    for value in (*VALUES, "1, 2"):
        body = body_of({"X": ["1"], "ID": [value]})
        outcomes = outcome(request.read, body, "m"), outcome(long_way, agreed, body)
        np.testing.assert_equal(*outcomes, err_msg=value)


def test_lengths_are_compared_and_limited():
    request = PredictRequest(contract(Column("X", "float"), Column("Y", "float")), 2)
    assert request.read(body_of({"X": [], "Y": []}), "m").matrix.shape == (0, 2)
    assert request.read(body_of({"X": ["1"] * 2, "Y": ["2"] * 2}), "m").matrix.shape == (2, 2)
    with pytest.raises(Problem, match="Y has 1 values and X has 2"):
        request.read(body_of({"X": ["1"] * 2, "Y": ["1"]}), "m")
    with pytest.raises(Problem, match="3 rows are more than the 2"):
        request.read(body_of({"X": ["1"] * 3, "Y": ["1"] * 3}), "m")


@pytest.mark.parametrize(
    ("more", "status", "sentence"),
    [
        (', "model": "other"', 404, "only 'm'"),
        (', "modell": "m"', 422, "unknown field `modell`"),
        (', "data": 5', 422, "data: expected `object`"),
        (', "model": NaN', 400, "missing value is null"),
        (", ", 400, "cannot be read as JSON"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(more, status, sentence):
    request = PredictRequest(contract(Column("X", "float")), 10)
    with pytest.raises(Problem, match=sentence) as refused:
        request.read(body_of({"X": ["1"]}, more), "m")
    assert refused.value.status == status


def test_a_date_as_an_example_is_described_as_text():
    column = Column("DAY", "date", example=date(2024, 2, 29))
    struct = PredictRequest(contract(column), 10).struct
    _, described = msgspec.json.schema_components([struct])
    assert described["Rows"]["properties"]["DAY"]["examples"] == [["2024-02-29"]]
    assert json.dumps(described) and example_of(column) == "2024-02-29"
