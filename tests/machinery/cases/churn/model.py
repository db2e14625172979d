"""A pipeline whose export to ONNX gives the right classes with wrong probabilities.

skl2onnx 1.20 leaves out the columns that ``add_indicator`` adds.
"""

from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SCORING = "neg_log_loss"
BASELINE = "baseline"


class Candidate(NamedTuple):
    estimator: BaseEstimator
    space: dict[str, list]


def build(seed: int) -> dict[str, Candidate]:
    gaps = SimpleImputer(add_indicator=True)
    pipeline = make_pipeline(StandardScaler(), gaps, LogisticRegression())
    return {
        BASELINE: Candidate(DummyClassifier(strategy="prior"), {}),
        "logistic_regression": Candidate(pipeline, {}),
    }


def evaluate(
    target: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray | None,
) -> dict[str, float]:
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return {"log_loss": float(log_loss(target, exact, labels=[0, 1]))}
