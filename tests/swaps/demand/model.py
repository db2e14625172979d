"""One candidate that has no export, and the baseline."""

from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import median_absolute_error

SCORING = "neg_median_absolute_error"
BASELINE = "median"


class Candidate(NamedTuple):
    """An estimator and the lists of hyper-parameter values to search in."""

    estimator: BaseEstimator
    space: dict[str, list]


def build(seed: int) -> dict[str, Candidate]:
    """The candidates by name."""
    boosting = HistGradientBoostingRegressor(random_state=seed, max_iter=50)
    return {
        "boosting": Candidate(boosting, {"learning_rate": [0.1, 0.2]}),
        BASELINE: Candidate(DummyRegressor(strategy="median"), {}),
    }


def evaluate(
    target: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
) -> dict[str, float]:
    """The median error in pieces, 0 is best."""
    return {"median_error": float(median_absolute_error(target, predicted))}
