"""Which estimators compete, and how a prediction is judged.

This is one of the three files to change for your own project. It works with any contract as it is.
Everything here is pure: no files, no settings. Estimators take the numeric form of the contract, a
float32 matrix of shape (rows, columns) in the contract's order; encoding and imputation belong
inside the pipelines.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from .contract import CONTRACT

# How cross-validation ranks the candidates: the name of a scikit-learn scorer.
SCORING = "f1_macro"
BASELINE = "baseline"


class Candidate(NamedTuple):
    """An estimator and the lists of hyper-parameter values to search in."""

    estimator: BaseEstimator
    space: dict[str, list]


def build(seed: int) -> dict[str, Candidate]:
    """The candidates by name; the baseline knows only how frequent the classes are."""
    logistic = LogisticRegression(max_iter=1000)
    forest = RandomForestClassifier(50, random_state=seed)
    half = max(2, len(CONTRACT.columns) // 2)
    return {
        BASELINE: Candidate(DummyClassifier(strategy="prior"), {}),
        "logistic_regression": Candidate(
            make_pipeline(_features(), SelectKBest(k="all"), logistic),
            {
                "selectkbest__k": [half, "all"],
                "logisticregression__C": [0.01, 0.1, 1.0, 10.0, 100.0],
            },
        ),
        "random_forest": Candidate(
            make_pipeline(_features(scaled=False), forest),
            {
                "randomforestclassifier__max_depth": [3, 6],
                "randomforestclassifier__min_samples_leaf": [1, 4],
            },
        ),
    }


def _features(scaled: bool = True):
    """Categories become one column for each value; gaps of numbers are filled with the median."""
    categories = [i for i, column in enumerate(CONTRACT.columns) if column.type == "category"]
    encode = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-1, keep_empty_features=True),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    return make_column_transformer(
        (encode, categories),
        remainder=make_pipeline(fill, StandardScaler()) if scaled else fill,
        verbose_feature_names_out=False,
    )


def evaluate(
    target: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
) -> dict[str, float]:
    """Metrics of predictions, all from 0 to 1 but the log loss (nats, 0 is best).

    :param target: true class codes, shape (rows,).
    :param predicted: predicted class codes, shape (rows,).
    :param probabilities: shape (rows, classes), or None.
    """
    average: dict[str, Any] = {"average": "macro", "zero_division": 0}
    metrics = {
        "f1_macro": f1_score(target, predicted, **average),
        "accuracy": accuracy_score(target, predicted),
        "precision_macro": precision_score(target, predicted, **average),
        "recall_macro": recall_score(target, predicted, **average),
    }
    if probabilities is not None:
        labels = np.arange(probabilities.shape[1])
        # float32 probabilities do not sum to 1 in float64.
        exact = probabilities.astype(np.float64)
        exact /= exact.sum(axis=1, keepdims=True)
        metrics["log_loss"] = log_loss(target, exact, labels=labels)
    return {name: float(value) for name, value in metrics.items()}


def business(target: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """What the predictions are worth to those who use them, for `monitor`: turnover, time, …

    Arguments as for ``evaluate``. Here: how many of a thousand predictions are wrong.
    """
    return {"wrong_per_thousand": 1000 * float(np.mean(predicted != target))}
