"""Two candidates and the baseline, which stands last; metrics of its own."""

from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

SCORING = "balanced_accuracy"
BASELINE = "always the same"


class Candidate(NamedTuple):
    """An estimator and the lists of hyper-parameter values to search in."""

    estimator: BaseEstimator
    space: dict[str, list]


def build(seed: int) -> dict[str, Candidate]:
    """The candidates by name."""
    tree = DecisionTreeClassifier(random_state=seed)
    neighbors = make_pipeline(SimpleImputer(), StandardScaler(), KNeighborsClassifier())
    logistic = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=500))
    return {
        "tree": Candidate(make_pipeline(SimpleImputer(), tree), {}),
        "neighbors": Candidate(neighbors, {"kneighborsclassifier__n_neighbors": [3, 9]}),
        "logistic": Candidate(logistic, {"logisticregression__C": [1.0, 10.0]}),
        BASELINE: Candidate(DummyClassifier(strategy="most_frequent"), {}),
    }


def evaluate(
    target: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
) -> dict[str, float]:
    """How many of each depot's parcels are found (0 to 1), and the share that is not."""
    return {
        "balanced_accuracy": float(balanced_accuracy_score(target, predicted)),
        "wrong": float(np.mean(target != predicted)),
    }
