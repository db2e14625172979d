"""Columns and contracts: what is refused, and the numeric form of what is not."""

from datetime import date, datetime, time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.schema import Column, Contract, arrow

NAN = float("nan")
TARGET = Column("TARGET", "float")


def encode(column, values, kind=None):
    """Numeric form as a list, None for NaN; and the reasons by row."""
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    codes, violations = arrow.encode(column, array)
    reasons = {int(row): reason for rows, reason in violations for row in rows}
    assert len(reasons) == sum(len(rows) for rows, _ in violations), "a row is named twice"
    return [None if np.isnan(code) else float(code) for code in codes], reasons


def contract(*columns, key=None):
    return Contract("1.0.0", columns, TARGET, key)


def test_a_missing_category_of_numbers_is_missing():
    values = [10.0, NAN, None]
    column = Column("X", "category", allowed=(10, 20), nullable=True)
    assert encode(column, values) == ([0, None, None], {})
    refused = encode(Column("X", "category", allowed=(10, 20)), values)[1]
    assert refused == {1: "is missing", 2: "is missing"}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (Column("X", "float"), [True]),
        (Column("X", "float"), [date(2020, 1, 1)]),
        (Column("X", "float"), [time(1)]),
        (Column("X", "float"), [[1.0]]),
        (Column("X", "float"), [{"a": 1.0}]),
        (Column("X", "float"), [b"\xff"]),
        (Column("X", "float"), pa.array(["x"], pa.string_view())),
        (Column("X", "integer"), [[1]]),
        (Column("X", "boolean"), [0.5]),
        (Column("X", "date"), [20200101]),
        (Column("X", "category", allowed=("a",)), [date(2020, 1, 1)]),
    ],
)
def test_a_value_of_a_strange_type_makes_a_rejected_row(column, values):
    array = values if isinstance(values, pa.Array) else pa.array(values)
    checked = contract(column).check(pa.RecordBatch.from_arrays([array], ["X"]))
    assert not checked.valid.any()
    assert checked.violations.num_rows == 1


@pytest.mark.parametrize(
    ("kind", "limit", "told"),
    [
        ("integer", 10**9, "beyond what float32 holds exactly"),
        ("float", 1e300, "beyond what float32 holds"),
        ("float", float("nan"), "beyond what float32 holds"),
        ("date", "2010-01-01", "must be a datetime.date"),
        ("date", datetime(2010, 1, 1), "must be a datetime.date"),
        ("float", "1", "must be one"),
        ("boolean", 1, "goes with a number or a date"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(kind, limit, told):
    for which in ("minimum", "maximum"):
        with pytest.raises(ProjectError, match=f"contract: X: the limit .* {told}"):
            Column("X", kind, **{which: limit})


def test_what_changes_the_meaning_changes_the_numeric_form():
    forms = [
        contract(column).numeric_form
        for column in (
            Column("A", "float", unit="cm"),
            Column("A", "float", unit="mm"),
            Column("A", "float", unit="cm", nullable=True),
            Column("A", "integer", unit="cm"),
        )
    ]
    assert all(forms.count(form) == 1 for form in forms)


def test_a_batch_becomes_one_float32_matrix():
    columns = (
        Column("A", "float"),
        Column("B", "category", allowed=("x", "y")),
        Column("C", "boolean"),
        Column("D", "date"),
        Column("E", "integer", nullable=True),
    )
    batch = {
        "E": [7, None],
        "D": [date(1970, 1, 3), date(1970, 1, 1)],
        "C": [True, False],
        "B": ["y", "x"],
        "A": [0.5, 1.5],
        "EXTRA": ["does", "no harm"],
    }
    matrix = contract(*columns).encode(batch)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [[0.5, 1, 1, 2, 7], [1.5, 0, 0, 0, NAN]])


@pytest.mark.parametrize("make", [dict, pd.DataFrame, pa.table])
def test_every_form_of_data_gives_the_same_matrix(make):
    data = make({"A": [1.0, 2.0], "B": ["y", "x"]})
    columns = Column("A", "float"), Column("B", "category", allowed=("x", "y"))
    np.testing.assert_array_equal(contract(*columns).encode(data), [[1, 1], [2, 0]])


def test_a_text_key_takes_any_text_and_is_not_in_the_matrix():
    with_key = contract(Column("A", "float"), key=Column("ID", "text"))
    batch = pa.RecordBatch.from_pydict({"A": [1.0, 2.0], "ID": ["ação 1", "b"]})
    checked = with_key.check(batch)
    assert checked.keys.to_pylist() == ["ação 1", "b"]
    assert checked.matrix.shape == (2, 1)
    assert with_key.needed == ["ID", "A"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["WIDTH"], "column LENGTH is missing"),
        ([], "column LENGTH, WIDTH is missing"),
        (["LENGHT", "WIDTH"], "there is LENGHT"),
        (["length", "WIDTH"], "there is length"),
        (["LENGTH", "WIDTH", "LENGTH"], "LENGTH.*twice"),
    ],
)
def test_missing_misspelt_and_duplicate_columns_are_named(names, sentence):
    columns = contract(Column("LENGTH", "float"), Column("WIDTH", "float"))
    with pytest.raises(ProjectError, match=rf"input\.csv.*{sentence}"):
        columns.require(names, "input.csv")


@pytest.mark.parametrize(
    "data",
    [
        {"A": [1.0, "x"]},
        {"A": [1.0, 2.0], "EXTRA": [1]},
        {"B": [1.0]},
        {"A": 1.0},
        [{"A": "x"}],
        pd.DataFrame({"A": [1.0, "x"]}),
        pd.DataFrame([[1.0, 2.0]], columns=["A", "A"]),
        pa.table([pa.array([1.0]), pa.array([2.0])], names=["A", "A"]),
    ],
    ids=str,
)
def test_data_that_breaks_the_contract_is_an_error_with_a_sentence(data):
    with pytest.raises(ProjectError, match=r"\.$"):
        contract(Column("A", "float")).encode(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Column("A", "double"),
        lambda: Column("A", "category"),
        lambda: Column("A", "float", allowed=("a",)),
        lambda: Column("A", "category", allowed=("a", "a")),
        lambda: Column("A", "category", allowed=("a", 1)),
        lambda: Column("A", "float", minimum=2, maximum=1),
        lambda: Column("A", "date", minimum=date(2021, 1, 1), maximum=date(2020, 1, 1)),
        lambda: contract(Column("A", "text")),
        lambda: contract(Column("A", "float"), Column("A", "float")),
        lambda: contract(Column("TARGET", "float")),
        lambda: contract(Column("A", "float"), key=Column("A", "text")),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused(make):
    with pytest.raises(ProjectError, match="contract"):
        make()


@pytest.mark.parametrize("name", ["prediction", "Run_ID", "value", "row"])
def test_a_key_that_would_replace_a_column_of_the_output_is_refused(name):
    with pytest.raises(ProjectError, match=f"{name}: predictions have a column of this name"):
        contract(Column("A", "float"), key=Column(name, "text"))
    # A feature is not in the output.
    assert contract(Column(name, "float")).names == [name]


@pytest.mark.parametrize(
    ("column", "codes", "values"),
    [
        (Column("T", "category", allowed=("a", "b")), [1.0, 0.0], ["b", "a"]),
        (Column("T", "category", allowed=(10, 20)), [1.0, 0.0], [20, 10]),
        (Column("T", "boolean"), [1.0, 0.0], [True, False]),
        (Column("T", "integer"), [2.6, -1.0], [3, -1]),
        (Column("T", "date"), [1.0, 0.0], [date(1970, 1, 2), date(1970, 1, 1)]),
        (Column("T", "float"), [2.5, NAN], [2.5, NAN]),
    ],
)
def test_decode_gives_the_columns_own_values(column, codes, values):
    assert column.decode(np.array(codes)).tolist() == pytest.approx(values, nan_ok=True)


def test_describe_and_markdown_tell_everything():
    columns = (
        Column("A", "float", "Height", "cm", minimum=0, maximum=300),
        Column("B", "category", allowed=("x", "y"), nullable=True),
        Column("D", "date", minimum=date(2020, 1, 1)),
    )
    full = contract(*columns, key=Column("ID", "text", "Order number"))
    described = full.describe()
    assert [column["name"] for column in described["columns"]] == ["A", "B", "D"]
    assert described["columns"][2]["minimum"] == "2020-01-01"
    assert described["key"]["name"] == "ID"
    lines = full.markdown().splitlines()
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    table = "\n".join(lines)
    for word in ("ID", "Order number", "Height", "cm", "0 … 300", "x, y", "2020-01-01", "TARGET"):
        assert word in table


def test_a_text_key_that_came_as_a_float_is_no_number_with_an_exponent():
    """As pandas keeps numbers with gaps."""
    column = Column("K", "text")
    given = pa.array([5.0, 123456789012.0, 2.0**53 - 1, 1.5, None, float("nan")])
    found, unreadable = arrow.read(column, given, pa.string())
    assert found.to_pylist() == ["5", "123456789012", "9007199254740991", "1.5", None, None]
    assert not unreadable.any()
