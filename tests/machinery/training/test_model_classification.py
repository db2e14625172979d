"""The candidates and their metrics, on tables small enough to check by hand.

The numbers are those of this ``evaluate``: with metrics of your own in model.py, adapt them.
"""

import math

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import get_scorer

from iris_flower_prediction import model
from iris_flower_prediction.models.artifact import native

SURE = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], np.float32)


def evaluate(predicted, probabilities=None):
    """The metrics where 0, 1, 1 would have been right."""
    metrics = model.evaluate(np.array([0.0, 1.0, 1.0]), np.array(predicted), probabilities)
    known = {"f1_macro", "accuracy", "precision_macro", "recall_macro"}
    assert known <= set(metrics), "model.py has metrics of your own: put their numbers here"
    return metrics


def test_perfect_predictions():
    metrics = evaluate([0.0, 1.0, 1.0], SURE)
    assert metrics["f1_macro"] == metrics["accuracy"] == 1.0
    expected = -(math.log(0.9) + math.log(0.8) + math.log(0.6)) / 3
    assert metrics["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_one_of_three_wrong():
    metrics = evaluate([0.0, 1.0, 0.0])
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["precision_macro"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["recall_macro"] == pytest.approx((1 + 1 / 2) / 2)
    assert metrics["f1_macro"] == pytest.approx(2 / 3)
    assert "log_loss" not in metrics


def test_the_scorer_exists_and_every_candidate_learns(matrix, examples):
    get_scorer(model.SCORING)
    target = np.arange(len(matrix)) % 3 / 1.0
    for estimator, space in model.build(0).values():
        first = {name: values[0] for name, values in space.items()}
        fitted = clone(estimator).set_params(**first).fit(matrix, target)
        assert set(fitted.predict(matrix)) <= {0.0, 1.0, 2.0}


def test_the_baseline_looks_at_no_feature(matrix):
    target = np.arange(len(matrix)) % 3 == 0
    baseline = model.build(0)[model.BASELINE].estimator.fit(matrix, target)
    assert set(baseline.predict(matrix)) == {False}
    assert model.evaluate(target, baseline.predict(matrix), None)["f1_macro"] < 0.5


def test_the_same_seed_gives_the_same_model(matrix):
    target = (np.arange(len(matrix)) % 5 < 2).astype(float)
    for name in model.build(7):
        one, two = (model.build(7)[name].estimator.fit(matrix, target) for _ in "12")
        for expected, found in zip(native(one)(matrix), native(two)(matrix), strict=True):
            np.testing.assert_array_equal(expected, found, name)
