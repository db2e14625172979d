"""The formulas of drift and calibration, on numbers whose answer is known."""

import numpy as np
import pytest

from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models.reference import Bins, reference
from iris_flower_prediction.monitoring import performance
from iris_flower_prediction.monitoring.drift import drifts, p_value, psi
from iris_flower_prediction.monitoring.predictions import Labelled, Labels

RANDOM = np.random.default_rng(0)


def test_the_stability_index_of_known_counts():
    before, now = np.array([5000, 5000, 0]), np.array([2500, 7500, 0])
    expected = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert psi(before, now) == pytest.approx(expected, rel=1e-2)
    assert psi(before, before * 3) == pytest.approx(0, abs=1e-3)
    assert np.isfinite(psi(np.array([10, 0]), np.array([0, 10])))


def test_p_values_of_the_same_and_of_another_distribution():
    bins = Bins(edges=None, counts=[500, 500, 0])
    assert p_value(bins, np.array([250, 250, 0]), None) > 0.9
    assert p_value(bins, np.array([350, 150, 0]), None) < 1e-6
    assert p_value(bins, np.array([0, 0, 0]), None) == 1
    sample = RANDOM.normal(size=500)
    bins = Bins(edges=[0.0], counts=[250, 250, 0], sample=sample.tolist())
    # The same median, so that the counts are the same, but another spread.
    values = RANDOM.normal(scale=3, size=500).astype(np.float32)
    assert p_value(bins, np.array([250, 250, 0]), values) < 1e-6
    assert p_value(bins, np.array([250, 250, 0]), None) > 0.9


def test_the_training_rows_themselves_have_not_moved(matrix, target):
    of_training = reference(matrix[:400], target[:400])
    counts = of_training.named(of_training.count(matrix[:400], target[:400]))
    for drift in drifts(of_training, counts, matrix[:400]):
        assert drift.psi == pytest.approx(0, abs=1e-9)
        assert drift.p == pytest.approx(1)


def test_missing_values_are_drift_where_values_are_kept(matrix, target):
    """The Kolmogorov-Smirnov test cannot see them."""
    of_training, gaps = reference(matrix, target), matrix.copy()
    gaps[::3, 1] = np.nan
    counts = of_training.named(of_training.count(gaps, target))
    first = drifts(of_training, counts, gaps)[0]
    assert first.subject == CONTRACT.names[1]
    assert first.p < 0.001


def test_a_column_without_a_value_in_training_has_a_reference(matrix, target):
    empty = matrix.copy()
    empty[:, 0] = np.nan
    assert reference(empty, target).columns[CONTRACT.names[0]].counts == [0, 0, len(matrix)][1:]


def test_of_many_labels_a_random_sample_is_measured():
    collected = Labels(1000, 0)
    for block in range(40):
        target = np.full(500, float(block < 20))
        collected.add(500, target, target, None)
    found = collected.labelled()
    assert (len(found.target), found.rows) == (1000, 20_000)
    assert found.target.mean() == pytest.approx(0.5, abs=0.06)
    assert found.probabilities is None


def test_many_columns_are_not_an_accident_each(matrix, target):
    """Among rows of the same distribution, the adjusted p-values find nothing."""
    of_training = reference(matrix, target)
    found = 0
    for seed in range(40):
        few = np.random.default_rng(seed).integers(0, len(matrix), 100)
        counts = of_training.named(of_training.count(matrix[few], target[few]))
        found += min(each.p for each in drifts(of_training, counts, matrix[few])) < 0.05
    assert found <= 4


def test_the_column_that_moved_comes_first(matrix, target):
    of_training = reference(matrix, target)
    moved = matrix.copy()
    moved[:, 2] += 2
    counts = of_training.named(of_training.count(moved, target))
    first, second, *_ = drifts(of_training, counts, moved)
    assert first.subject == CONTRACT.names[2]
    assert first.psi > 0.25 > second.psi
    assert first.p < 0.01 < second.p


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy():
    """80 % sure, 60 % right: the gap is 0.2; nothing is wrong where both agree."""
    probabilities = np.tile([0.8, 0.2, 0.0], (1000, 1))
    target = np.where(np.arange(1000) % 10 < 6, 0, 1)
    found = performance._calibration(Labelled(target, np.zeros(1000), probabilities, 1000))
    assert found.value == pytest.approx(0.2)
    target = np.where(np.arange(1000) % 10 < 8, 0, 1)
    found = performance._calibration(Labelled(target, np.zeros(1000), probabilities, 1000))
    assert found.value == pytest.approx(0, abs=1e-9)


def test_the_bias_is_the_mean_residual():
    target = RANDOM.normal(size=1000)
    found = performance._bias(Labelled(target, target + 0.5, None, 1000))
    assert found.value == pytest.approx(0.5)
    assert found.low <= 0.5 <= found.high
