"""The candidates and their metrics, on tables small enough to check by hand."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import get_scorer

from {{ cookiecutter.__package_name }} import model


def test_perfect_predictions():
    target = np.array([1.0, 2.0, 4.0])
    assert model.evaluate(target, target, None) == {"rmse": 0.0, "mae": 0.0, "r2": 1.0}


def test_errors_of_one_and_two():
    metrics = model.evaluate(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 1.0]), None)
    assert metrics["mae"] == pytest.approx(1.0)
    assert metrics["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert metrics["r2"] == pytest.approx(1 - 5 / 2)


def test_the_scorer_exists_and_every_candidate_learns(matrix):
    get_scorer(model.SCORING)
    target = matrix[:, 0].astype(np.float64)
    for estimator, space in model.build(0).values():
        first = {name: values[0] for name, values in space.items()}
        fitted = clone(estimator).set_params(**first).fit(matrix, target)
        assert np.isfinite(fitted.predict(matrix)).all()


def test_the_baseline_always_answers_the_mean(matrix):
    target = np.arange(len(matrix), dtype=float)
    baseline = model.build(0)[model.BASELINE].estimator.fit(matrix, target)
    assert baseline.predict(matrix) == pytest.approx(target.mean())
    assert model.evaluate(target, baseline.predict(matrix), None)["r2"] == pytest.approx(0)


def test_the_same_seed_gives_the_same_model(matrix):
    target = matrix[:, 0].astype(np.float64)
    one, two = (model.build(7)["random_forest"].estimator.fit(matrix, target) for _ in "12")
    np.testing.assert_array_equal(one.predict(matrix), two.predict(matrix))
