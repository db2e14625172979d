"""The candidates that model.py builds, and its metrics."""

import math

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.metrics import get_scorer

from {{ cookiecutter.__package_name }} import model, settings

CANDIDATES = pytest.mark.parametrize("name", model.build(0))


def first_of_its_space(name: str, seed: int = 0):
    estimator, space = model.build(seed)[name]
    return clone(estimator).set_params(**{key: values[0] for key, values in space.items()})


@CANDIDATES
def test_every_candidate_learns(split, name):
    predicted = first_of_its_space(name).fit(split.training, split.target).predict(split.holdout)
    assert np.isfinite(predicted).all()
    if is_classifier(model.build(0)[name].estimator):
        assert set(predicted) <= set(split.target)


@CANDIDATES
def test_the_same_seed_gives_the_same_model(split, name):
    one, two = (first_of_its_space(name, 7).fit(split.training, split.target) for _ in range(2))
    np.testing.assert_array_equal(one.predict(split.holdout), two.predict(split.holdout))


def test_the_baseline_looks_at_no_feature(split):
    baseline = first_of_its_space(model.BASELINE).fit(split.training, split.target)
    assert len(set(baseline.predict(split.holdout))) == 1


def test_candidates_are_ranked_by_a_scorer_of_scikit_learn():
    get_scorer(model.SCORING)


def test_perfect_predictions_reach_every_threshold(split):
    target, training = split.holdout_target, settings.load().training
    metrics = evaluate(target, target)
    assert all(math.isfinite(value) for value in metrics.values())
    assert not [name for name, least in training.minimum.items() if metrics[name] < least]
    assert not [name for name, most in training.maximum.items() if metrics[name] > most]


def test_the_baseline_is_no_perfect_model(split):
    baseline = first_of_its_space(model.BASELINE).fit(split.training, split.target)
    metric = settings.load().training.metric
    perfect = evaluate(split.holdout_target, split.holdout_target)[metric]
    assert evaluate(split.holdout_target, baseline.predict(split.holdout))[metric] != perfect


def evaluate(target: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The metrics of predictions; every predicted class has probability 1."""
    sure = None
    if is_classifier(model.build(0)[model.BASELINE].estimator):
        sure = np.eye(int(target.max()) + 1, dtype=np.float32)[predicted.astype(int)]
    return model.evaluate(target, predicted, sure)
