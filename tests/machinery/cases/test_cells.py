"""What a value means: the same in a batch job, in a request, and in ``predict``.

Each cell stands in a row whose other values are 0 in numeric form. The mirror predicts the sum of
place times numeric form, where the first column of the contract has place 1.
"""

import csv
import io
from datetime import date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mirror_project import MISSING, ZERO, write_csv

NAMES = list(ZERO)
# The same row as JSON.
ZERO_JSON = dict(
    zip(NAMES, (0, 0, 0, 0, False, False, "Malmö", 20, *["1970-01-01"] * 2), strict=True)
)
GAP = "is missing"
FLOAT, INTEGER, BOOLEAN, DATE = (
    f"is not of type {kind}" for kind in ("float", "integer", "boolean", "date")
)
FRACTION, SMALL, LARGE = "is not a whole number", "is below the minimum", "is above the maximum"
INFINITE = "is not finite"
CITY, GRADE = "is not one of Malmö, São Paulo, 01, 1", "is not one of 20, 1, -1"
# Refused, for whichever of the reasons.
REFUSED = "is "
AS_IT_IS = object()


def cells(column, expected, *texts, json=AS_IT_IS):
    """Cells of a csv file that mean the same: a numeric form, or how the reason begins.

    ``json`` is their value in a request; without it, it is the text of the cell.
    """
    return [(column, text, text if json is AS_IT_IS else json, expected) for text in texts]


CELLS = [
    *cells("PRICE", 1.5, "1.5", " 1.5 ", "+1.5", "1.50", "15e-1", json=1.5),
    *cells("PRICE", 2, "\t2\t", "\u00a02", "2.", json=2),
    *cells("PRICE", 0.5, ".5", json=0.5),
    *cells("PRICE", 0, "-0", json=-0.0),
    *cells("PRICE", 1000, "1e3", "1000", json=1e3),
    *cells("PRICE", -1000, "-1E3", json=-1000),
    *cells("PRICE", LARGE, "1000.1", json=1000.1),
    *cells("PRICE", SMALL, "-1000.1", json=-1000.1),
    *cells(
        "PRICE", FLOAT, "1,5", "1.000,5", "1_000", "1 000", "0x10", "1.5f", "--1", "1e", "٣", "½"
    ),
    *cells("PRICE", FLOAT, "None", "NA", "-", "1970-01-01"),
    *cells("PRICE", FLOAT, "true", json=True),
    *cells("PRICE", REFUSED, "1e400", "inf", "-Infinity"),
    *cells("PRICE", GAP, "", "   ", "null", "NaN", "nan", json=None),
    *cells("AMOUNT", 1234567, "1234567", json=1234567),
    *cells("AMOUNT", 1e38, "1e38", json=1e38),
    *cells("AMOUNT", LARGE, "1e39", json=1e39),
    *cells("AMOUNT", SMALL, "-1e39", json=-1e39),
    *cells("AMOUNT", 0, "1e-50", json=1e-50),
    *cells("AMOUNT", MISSING, "", "   ", "null", "NaN", "nan", json=None),
    *cells("AMOUNT", FLOAT, "x"),
    *cells("AGE", 7, "7", " 7 ", "007", "+7", "7e0", json=7),
    *cells("AGE", 2, "2.0", "2.", json=2.0),
    *cells("AGE", 15, "1.5e1", json=15),
    *cells("AGE", 120, "120", json=120),
    *cells("AGE", f"{LARGE} 120", "121", json=121),
    *cells("AGE", f"{SMALL} -5", "-6", json=-6),
    *cells("AGE", FRACTION, "7.5", json=7.5),
    *cells("AGE", FRACTION, "1e-1", json=0.1),
    *cells("AGE", INTEGER, "1,0", "1_000", "0x7", "x"),
    *cells("AGE", INTEGER, "true", json=True),
    *cells("AGE", GAP, "", "null", json=None),
    *cells("COUNT", 2**24, "16777216", json=2**24),
    *cells("COUNT", -(2**24), "-16777216", json=-(2**24)),
    *cells("COUNT", LARGE, "16777217", json=2**24 + 1),
    *cells("COUNT", SMALL, "-16777217.0", json=-(2**24) - 1.0),
    *cells("COUNT", LARGE, "9007199254740993", json=2**53 + 1),
    *cells("COUNT", MISSING, "", "null", "NaN", json=None),
    *cells("MEMBER", 1, "true", "True", " TRUE ", json=True),
    *cells("MEMBER", 1, "1", " 1 ", json=1),
    *cells("MEMBER", 1, "1.0", json=1.0),
    *cells("MEMBER", 0, "false", "FALSE", json=False),
    *cells("MEMBER", 0, "0", json=0),
    *cells("MEMBER", BOOLEAN, "yes", "t", "on", "2", "-1", "x"),
    *cells("MEMBER", BOOLEAN, "0.5", json="0.5"),
    *cells("MEMBER", GAP, "", "null", json=None),
    *cells("PAID", 1, "1", json=True),
    *cells("PAID", MISSING, "", "null", json=None),
    *cells("CITY", 1, "São Paulo"),
    *cells("CITY", 0, " Malmö ", "\u00a0Malmö"),
    *cells("CITY", 2, "01"),
    *cells("CITY", 3, "1"),
    # The last but one has its ö in two characters.
    *cells("CITY", CITY, "1.0", "001", "malmö", "MALMÖ", "Malmo", "Malmo\u0308", "São  Paulo"),
    *cells("CITY", GAP, "", "null", json=None),
    *cells("GRADE", 1, "1", " 1 ", "1.0", "01", json=1),
    *cells("GRADE", 2, "-1", json=-1),
    *cells("GRADE", 0, "20", "20.0", "2e1", json=20.0),
    *cells("GRADE", GRADE, "0", json=0),
    *cells("GRADE", GRADE, "1.5", json=1.5),
    *cells("GRADE", GRADE, "true", json=True),
    *cells("GRADE", GRADE, "x"),
    *cells("GRADE", MISSING, "", "null", "NaN", json=None),
    *cells("SINCE", 1, "1970-01-02", "1970-01-02 00:00", "1970-01-02 10:00:00.123456789"),
    *cells("SINCE", 1, " 1970-01-02 "),
    # The day as it is written, in whichever zone.
    *cells(
        "SINCE", 1, "1970-01-02T23:59:59Z", "1970-01-02T00:30+02:00", "1970-01-02T23:30:00-0500"
    ),
    *cells("SINCE", -3653, "1960-01-01"),
    *cells("SINCE", 22279, "2030-12-31", "2030-12-31T23:59:59"),
    *cells("SINCE", 19782, "2024-02-29"),
    *cells("SINCE", f"{SMALL} 1960-01-01", "1959-12-31"),
    *cells("SINCE", f"{LARGE} 2030-12-31", "2031-01-01"),
    *cells("SINCE", DATE, "2023-02-29", "2024-02-30", "1970-13-01", "0000-01-01", "10000-01-01"),
    *cells("SINCE", DATE, "19700102", "1970-W01-5", "1970-1-2", "02.01.1970", "01/02/1970"),
    *cells("SINCE", DATE, "1970-01-02T", "1970-01-02T10:60", "1970-01-02 24:00", "1970-01-02 soon"),
    *cells("SINCE", DATE, "1970-01-02\u00a010:00", "1700000000", "5"),
    *cells("SINCE", GAP, "", "null", json=None),
    *cells("UNTIL", 2932896, "9999-12-31"),
    *cells("UNTIL", MISSING, "", "null", json=None),
]
EACH = pytest.mark.parametrize(
    ("key", "column", "expected"),
    [(f"cell {at}", column, expected) for at, (column, _, _, expected) in enumerate(CELLS)],
    ids=[f"{column}={text!r}" for column, text, *_ in CELLS],
)
# JSON says what a value is: these have no cell of a csv file that means the same.
JSON_VALUES = [
    ("PRICE", "1.5", FLOAT),
    ("PRICE", [1.5], FLOAT),
    ("AGE", {"a": 1}, INTEGER),
    ("AGE", "7", INTEGER),
    ("AGE", 10**400, INFINITE),
    ("MEMBER", "true", BOOLEAN),
    ("MEMBER", 2, LARGE),
    ("MEMBER", -1, SMALL),
    ("CITY", 1, CITY),
    ("GRADE", "1", GRADE),
    ("SINCE", 5, DATE),
    ("SINCE", "1970-01-02\ud80010:00", DATE),
]


def check(found, column, expected):
    """A prediction, or the column and the reason of the violation, is the expected one."""
    if isinstance(expected, str):
        assert isinstance(found, tuple), found
        assert found[0] == column
        assert found[1].startswith(expected)
    else:
        shown = (NAMES.index(column) + 1) * expected
        # The mirror computes in float32; to the day, dates are exact nevertheless.
        assert found == pytest.approx(shown, rel=5e-6, abs=1e-3)


def answered(answer):
    """As Outcome.of, of an answer for one row."""
    if answer.status == 200:
        return answer.json["predictions"][0]
    assert answer.status == 422, answer.body
    (found,) = answer.json["violations"]
    assert found["index"] == 0
    return found["column"], found["reason"]


@pytest.fixture(scope="module")
def file(mirror):
    """All cells, one in a row. The columns are in another order than in the contract."""
    header = ["ID", "MORE", *reversed(NAMES)]
    lines = [
        [f"cell {at}", "?", *reversed((ZERO | {column: text}).values())]
        for at, (column, text, *_) in enumerate(CELLS)
    ]
    return write_csv(mirror.folder / "cells.csv", header, lines)


@pytest.fixture(scope="module")
def scored(mirror, file):
    return mirror.score(file)


@pytest.fixture(scope="module")
def api(mirror):
    return mirror.serve()


@EACH
def test_a_cell_in_a_batch_job(scored, key, column, expected):
    check(scored.of(key), column, expected)


@EACH
def test_the_same_value_in_a_request(api, key, column, expected):
    value = CELLS[int(key.split()[1])][2]
    data = {name: [each] for name, each in (ZERO_JSON | {column: value}).items()}
    check(answered(api.post("/predict", {"data": data})), column, expected)


@EACH
def test_the_same_cell_in_a_request_as_csv(api, key, column, expected):
    text = io.StringIO()
    cells = ZERO | {column: CELLS[int(key.split()[1])][1]}
    csv.writer(text).writerows([NAMES, cells.values()])
    body = text.getvalue().encode()
    check(answered(api.post("/invocations", body, Content_Type="text/csv")), column, expected)


@pytest.mark.parametrize(("column", "value", "reason"), JSON_VALUES)
def test_a_value_of_another_type_in_a_request_is_refused(api, column, value, reason):
    data = {name: [each] for name, each in (ZERO_JSON | {column: value}).items()}
    check(answered(api.post("/predict", {"data": data})), column, reason)


# Column, values as a parquet file has them, and what they mean.
TYPED = [
    ("PRICE", pa.array([1.5, -1000], pa.float32()), [1.5, -1000]),
    ("PRICE", pa.array([Decimal("1.25"), Decimal("1000.01")]), [1.25, LARGE]),
    ("PRICE", pa.array([float("nan"), float("inf"), float("-inf")]), [GAP, INFINITE, INFINITE]),
    ("PRICE", pa.array(["1", " x"], pa.large_string()), [1, FLOAT]),
    ("PRICE", pa.array(["1", "x"]).dictionary_encode(), [1, FLOAT]),
    ("PRICE", pa.array([True]), [FLOAT]),
    ("PRICE", pa.array([date(1970, 1, 1)]), [FLOAT]),
    ("PRICE", pa.array([time(1)]), [FLOAT]),
    ("PRICE", pa.array([[1.0]]), [FLOAT]),
    ("PRICE", pa.array([{"a": 1.0}]), [FLOAT]),
    ("PRICE", pa.array([b"\xff"]), [FLOAT]),
    ("AMOUNT", pa.array([None, float("nan"), 2]), [MISSING, MISSING, 2]),
    ("AMOUNT", pa.nulls(1), [MISSING]),
    ("AGE", pa.array([3, -6], pa.int8()), [3, SMALL]),
    ("AGE", pa.array([3.0, 3.5, None]), [3, FRACTION, GAP]),
    ("AGE", pa.array([[1]]), [INTEGER]),
    ("COUNT", pa.array([float("nan"), float("inf"), 2.0**24 + 2]), [MISSING, INFINITE, LARGE]),
    ("COUNT", pa.array([2**24 + 1, 5], pa.uint64()), [LARGE, 5]),
    ("COUNT", pa.array([2**63], pa.uint64()), [REFUSED]),
    ("COUNT", pa.array([2**24, 2**24 + 1, 2**60]), [2**24, LARGE, REFUSED]),
    ("COUNT", pa.array([Decimal(5), None]), [5, MISSING]),
    ("MEMBER", pa.array([True, False, None]), [1, 0, GAP]),
    ("PAID", pa.array([1.0, 0.0, float("nan"), 0.5, 2.0]), [1, 0, MISSING, FRACTION, LARGE]),
    ("PAID", pa.array([1, -1], pa.int8()), [1, SMALL]),
    ("CITY", pa.array(["São Paulo", "x", None]).dictionary_encode(), [1, CITY, GAP]),
    ("CITY", pa.array([1, 0]), [3, CITY]),
    ("CITY", pa.array([date(1970, 1, 1)]), [CITY]),
    ("GRADE", pa.array([1, 20, 5], pa.int16()), [1, 0, GRADE]),
    ("GRADE", pa.array([-1.0, float("nan"), 30.0]), [2, MISSING, GRADE]),
    ("GRADE", pa.array(["1", "1.0", "x"]).dictionary_encode(), [1, 1, GRADE]),
    ("SINCE", pa.array([date(1970, 1, 2)]), [1]),
    ("SINCE", pa.array([date(1970, 1, 2)], pa.date64()), [1]),
    ("SINCE", pa.array([datetime(1970, 1, 2, 23, 59)], pa.timestamp("us")), [1]),
    ("SINCE", pa.array([datetime(1969, 12, 31, 1), None], pa.timestamp("ns")), [-1, GAP]),
    ("SINCE", pa.array([datetime(1970, 1, 2, 23, 59)], pa.timestamp("ms", "UTC")), [1]),
    ("SINCE", pa.array([20200101]), [DATE]),
    ("UNTIL", pa.array([10**7], pa.int32()).cast(pa.date32()), [LARGE]),
]


@pytest.fixture(scope="module")
def typed(mirror):
    """A folder of parquet files, each of another type in one column."""
    folder = mirror.folder / "typed"
    folder.mkdir()
    for at, (column, values, _) in enumerate(TYPED):
        table = pa.table({name: pa.array([each] * len(values)) for name, each in ZERO_JSON.items()})
        keys = pa.array([f"{at}-{row}" for row in range(len(values))])
        table = table.set_column(NAMES.index(column), column, values).append_column("ID", keys)
        pq.write_table(table, folder / f"{at:02}.parquet")
    return mirror.score(folder)


@pytest.mark.parametrize(
    "at", range(len(TYPED)), ids=lambda at: f"{TYPED[at][0]}-{TYPED[at][1].type}"
)
def test_a_typed_value_in_a_batch_job(typed, at):
    column, _, expected = TYPED[at]
    for row, each in enumerate(expected):
        check(typed.of(f"{at}-{row}"), column, each)
