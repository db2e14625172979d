"""Which changes of the contract, and of the API, would break who relies on them."""

from dataclasses import replace

import pytest

from iris_flower_prediction.api.describe import breaking
from iris_flower_prediction.schema import Column, Contract
from iris_flower_prediction.schema.compatibility import changes


def contract(*columns, target=None, key=None) -> dict:
    return Contract("1.0.0", columns, target or Column("Y", "float"), key).describe()


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
        (FLOAT, column("integer", minimum=0, maximum=10), "is of type integer, no longer float"),
        (column("boolean"), column("integer"), "is of type integer, no longer boolean"),
        (FLOAT, TEXTS, "is of type category, no longer float"),
        (TEXTS, column("category", allowed=("b", "c")), "no longer takes a"),
        (NUMBERS, TEXTS, "no longer takes 0, 1"),
        (column("float", nullable=True), column("float"), "must not be missing any more"),
        (
            column("category", allowed=("a",), nullable=True),
            column("category", allowed=("a",)),
            "must not be missing any more",
        ),
    ],
)
def test_a_column_that_takes_less_breaks_clients(old, new, reason):
    assert changes(contract(old), contract(new)) == [f"column X {reason}"]


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
        (column("date", nullable=True), column("date", nullable=True)),
    ],
)
def test_a_column_that_takes_as_much_or_more_breaks_nobody(old, new):
    assert changes(contract(old), contract(new)) == []


def test_columns_that_come_and_go():
    one, two = Column("ONE", "float"), Column("TWO", "float")
    assert changes(contract(one, two), contract(one)) == ["column TWO is gone"]
    assert changes(contract(one), contract(one, two)) == ["column TWO is required"]
    nullable = contract(one, replace(two, nullable=True))
    assert changes(contract(one), nullable) == ["column TWO is required"]
    renamed = changes(contract(one), contract(two))
    assert renamed == ["column ONE is gone", "column TWO is required"]
    keyed = contract(one, key=Column("ID", "text"))
    assert changes(contract(one), keyed) == changes(keyed, contract(one)) != []


def test_a_prediction_that_no_client_expects():
    def between(old, new):
        targets = (replace(each, name="Y") for each in (old, new))
        return changes(*(contract(FLOAT, target=target) for target in targets))

    fewer = column("category", allowed=("a",))
    two = column("category", allowed=("a", "b"))
    assert between(fewer, two) == ["the prediction takes values that it did not"]
    assert between(two, fewer) == []
    assert between(column("integer"), column("float")) != []
    assert between(column("float"), column("integer")) == []


def test_paths_and_methods_that_go():
    info = {"info": {"x-contract": contract(FLOAT)}}
    old = info | {"paths": {"/predict": {"post": {}}, "/model": {"get": {}}}}
    new = info | {"paths": {"/predict": {"put": {}}, "/more": {"get": {}}}}
    assert breaking(old, new) == ["GET /model is gone", "POST /predict is gone"]
    assert breaking(old, old) == []
