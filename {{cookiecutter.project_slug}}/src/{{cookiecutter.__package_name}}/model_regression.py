"""Which estimators compete, and how a prediction is judged.

This is one of the three files to change for your own project. It works with any contract as it is.
Everything here is pure: no files, no settings. Estimators take the numeric form of the contract, a
float32 matrix of shape (rows, columns) in the contract's order; encoding and imputation belong
inside the pipelines.
"""

from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from .contract import CONTRACT

# How cross-validation ranks the candidates: the name of a scikit-learn scorer.
SCORING = "neg_root_mean_squared_error"
BASELINE = "baseline"


class Candidate(NamedTuple):
    """An estimator and the lists of hyper-parameter values to search in."""

    estimator: BaseEstimator
    space: dict[str, list]


def build(seed: int) -> dict[str, Candidate]:
    """The candidates by name; the baseline always answers the mean."""
    forest = RandomForestRegressor(50, random_state=seed)
    half = max(2, len(CONTRACT.columns) // 2)
    return {
        BASELINE: Candidate(DummyRegressor(), {}),
        "ridge": Candidate(
            make_pipeline(_features(), SelectKBest(f_regression, k="all"), Ridge()),
            {"selectkbest__k": [half, "all"], "ridge__alpha": [0.01, 0.1, 1.0, 10.0, 100.0]},
        ),
        "random_forest": Candidate(
            make_pipeline(_features(scaled=False), forest),
            {
                "randomforestregressor__max_depth": [4, 8],
                "randomforestregressor__min_samples_leaf": [5, 10],
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
    """Metrics of predictions, errors in the target's unit; R² is 1 at best.

    :param target: true values, shape (rows,).
    :param predicted: predicted values, shape (rows,).
    :param probabilities: None, a regression has none.
    """
    metrics = {
        "rmse": root_mean_squared_error(target, predicted),
        "mae": mean_absolute_error(target, predicted),
        "r2": r2_score(target, predicted),
    }
    return {name: float(value) for name, value in metrics.items()}


def business(target: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """What the predictions are worth to those who use them, for `monitor`: turnover, time, …

    Arguments as for ``evaluate``. Here: the share of predictions that are within 20 % of the truth.
    """
    return {"within_20_percent": float(np.mean(np.abs(predicted - target) <= 0.2 * np.abs(target)))}
