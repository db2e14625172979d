"""How rows are spread over the bins of a reference: each value in one of them, missing ones too."""

from dataclasses import replace

import numpy as np
import pytest

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import reference as module
from iris_flower_prediction.models.predict import Model
from iris_flower_prediction.models.reference import Bins, reference, reference_of
from iris_flower_prediction.schema import Column

COLUMNS = (
    Column("NUMBER", "float", nullable=True),
    Column("CONSTANT", "integer"),
    Column("COLOUR", "category", allowed=("red", "green", "blue"), nullable=True),
    Column("MEMBER", "boolean"),
)
ROWS = 1000


@pytest.fixture
def rows(monkeypatch) -> np.ndarray:
    contract = replace(CONTRACT, columns=COLUMNS, key=None, target=Column("Y", "float"))
    monkeypatch.setattr(module, "CONTRACT", contract)
    random = np.random.default_rng(0)
    number, colour = random.normal(size=ROWS), random.integers(0, 3, ROWS).astype(float)
    number[:30], colour[:50] = np.nan, np.nan
    member = random.random(ROWS) < 0.3
    return np.array([number, np.full(ROWS, 7.0), colour, member], np.float32).T


def test_numbers_are_counted_by_tenths_classes_by_themselves_and_gaps_apart(rows):
    found = reference(rows, np.arange(100.0))
    number, constant, colour, member = found.columns.values()
    assert number.counts == [97] * 10 + [30]
    assert (constant.edges, constant.counts) == ([7.0], [ROWS, 0, 0])
    assert colour.edges is None and colour.counts[-1] == 50
    assert colour.counts[:3] == [np.sum(rows[:, 2] == code) for code in range(3)]
    assert member.counts == [ROWS - rows[:, 3].sum(), rows[:, 3].sum(), 0]
    assert found.prediction.counts == [10] * 10 + [0]


def test_other_rows_are_counted_into_the_same_bins(rows):
    found = reference(rows, rows[:, 0])
    whole = found.count(rows, rows[:, 0])
    kept = found.named(whole)
    assert kept["columns"] == {name: bins.counts for name, bins in found.columns.items()}
    assert kept["prediction"] == found.prediction.counts
    parts = [found.count(part, part[:, 0]) for part in np.array_split(rows, 7)]
    np.testing.assert_array_equal(sum(parts, found.none()), whole)
    moved = found.named(found.count(rows + np.float32([9, 0, 0, 0]), rows[:, 0]))
    assert moved["columns"]["NUMBER"] == [0] * 9 + [970, 30]


def test_a_range_ends_with_its_edge():
    bins = Bins(edges=[0.5, 2.0], counts=[])
    values = np.float32([-9, 0.5, 0.500001, 2, 2.1, np.nan, np.inf])
    assert bins.count(values).tolist() == [2, 2, 2, 1]
    assert Bins(edges=[], counts=[]).count(values).tolist() == [6, 1]


def test_a_model_of_before_has_none():
    assert reference_of(Model({}, None)) is None
