"""Which changes of the contract would break a client of the API's description."""

from copy import deepcopy

import pytest

from iris_flower_prediction.api.openapi import breaking, schema
from iris_flower_prediction.schema import Column


def described(*columns, target=None, optional=()):
    """A document with these columns, as far as it matters here."""
    target = target or Column("Y", "float")
    rows = {
        "properties": {each.name: {"items": schema(each)} for each in columns},
        "required": [each.name for each in columns if each.name not in optional],
    }
    answer = {"properties": {"predictions": {"items": schema(target)}}}
    return {
        "paths": {"/predict": {"post": {}}, "/model": {"get": {}}},
        "components": {"schemas": {"Rows": rows, "Predictions": answer}},
    }


def column(type, **options):
    return Column("X", type, **options)


FLOAT = column("float", minimum=0, maximum=10)
TEXTS, NUMBERS = column("category", allowed=("a", "b")), column("category", allowed=(0, 1))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (FLOAT, column("float", minimum=1, maximum=10), "has a higher minimum"),
        (FLOAT, column("float", minimum=0, maximum=9.5), "has a lower maximum"),
        (column("float"), FLOAT, "has a higher minimum"),
        (FLOAT, column("integer", minimum=0, maximum=10), "is of another type"),
        (column("boolean"), column("integer"), "is of another type"),
        (FLOAT, TEXTS, 'allows nothing but "a", "b"'),
        (TEXTS, column("category", allowed=("b", "c")), 'no longer allows "a"'),
        (TEXTS, FLOAT, 'no longer allows "a", "b"'),
        (TEXTS, column("date"), 'no longer allows "a", "b"'),
        (NUMBERS, TEXTS, "no longer allows 0, 1"),
        (NUMBERS, column("integer", minimum=1), "no longer allows 0"),
        (column("float", nullable=True), column("float"), "can no longer be missing"),
        (
            column("category", allowed=("a",), nullable=True),
            column("category", allowed=("a",)),
            "no longer allows null",
        ),
        (column("date"), TEXTS, 'allows nothing but "a", "b"'),
    ],
)
def test_a_column_that_takes_less_breaks_clients(old, new, reason):
    assert breaking(described(old), described(new)) == [f"column X {reason}"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (FLOAT, FLOAT),
        (FLOAT, column("float", minimum=-1, maximum=11)),
        (FLOAT, column("float")),
        (FLOAT, column("float", minimum=0, maximum=10, nullable=True)),
        (FLOAT, column("float", description="Other words", unit="cm", minimum=0, maximum=10)),
        (column("integer", minimum=0, maximum=10), FLOAT),
        (TEXTS, column("category", allowed=("c", "b", "a"), nullable=True)),
        (NUMBERS, column("integer")),
        (NUMBERS, FLOAT),
        (column("date", nullable=True), column("date", nullable=True)),
    ],
)
def test_a_column_that_takes_as_much_or_more_breaks_nobody(old, new):
    assert breaking(described(old), described(new)) == []


def test_columns_that_come_and_go():
    one, two = Column("ONE", "float"), Column("TWO", "float")
    assert breaking(described(one, two), described(one)) == ["column TWO is gone"]
    assert breaking(described(one), described(one, two)) == ["column TWO is required"]
    assert breaking(described(one), described(one, two, optional={"TWO"})) == []
    optional = described(one, two, optional={"TWO"})
    assert breaking(optional, described(one, two)) == ["column TWO is required"]
    renamed = breaking(described(one), described(two))
    assert renamed == ["column ONE is gone", "column TWO is required"]


def test_paths_and_methods_that_go():
    old = described(FLOAT)
    new = deepcopy(old)
    new["paths"]["/more"] = new["paths"].pop("/model")
    new["paths"]["/predict"] = {"put": {}}
    assert breaking(old, new) == ["GET /model is gone", "POST /predict is gone"]


def test_a_prediction_that_no_client_expects():
    def between(old, new):
        return breaking(described(FLOAT, target=old), described(FLOAT, target=new))

    fewer = column("category", allowed=("a",))
    assert between(fewer, TEXTS) == ["the prediction takes values that it did not"]
    assert between(TEXTS, fewer) == []
    assert between(column("integer"), column("float")) != []
    assert between(column("float"), column("integer")) == []
