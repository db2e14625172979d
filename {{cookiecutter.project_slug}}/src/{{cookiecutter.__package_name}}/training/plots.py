"""Plots of a serving artifact on the held-out rows, kept with the training run."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.inspection import permutation_importance
from sklearn.metrics import ConfusionMatrixDisplay, PredictionErrorDisplay

from .. import model
from ..contract import CONTRACT
from ..models.predict import Model
from ..settings import Training

SHUFFLES = 5


class Served(BaseEstimator):
    """A model in a form that scikit-learn accepts as a fitted estimator."""

    def __init__(self, served: Model) -> None:
        self.served = served

    def fit(self, *_) -> "Served":
        return self


def draw(served: Model, split, folder: Path, config: Training) -> list[Path]:
    """The plots that fit the target, as PNG files in ``folder``."""
    labels, _ = served.run(split.holdout)
    figures = {"feature_importance": feature_importance(importance(served, split, config))}
    if CONTRACT.target.classes:
        figures["confusion_matrix"] = confusion_matrix(split.holdout_target, labels)
    else:
        figures["residuals"] = residuals(split.holdout_target, labels)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths


def importance(served: Model, split, config: Training) -> dict[str, float]:
    """How much the metric worsens, in its own unit, when a column is shuffled.

    Permutation importance (Breiman 2001, "Random Forests"), the mean of SHUFFLES shuffles.
    """
    sign = -1 if config.metric in config.maximum else 1

    def score(estimator: Served, matrix: np.ndarray, target: np.ndarray) -> float:
        return sign * model.evaluate(target, *estimator.served.run(matrix))[config.metric]

    data = (split.holdout, split.holdout_target)
    options = {"scoring": score, "n_repeats": SHUFFLES, "random_state": config.seed}
    found = permutation_importance(Served(served), *data, **options).importances_mean
    return {column.name: float(loss) for column, loss in zip(CONTRACT.columns, found, strict=True)}


def feature_importance(losses: dict[str, float]) -> Figure:
    figure = Figure(figsize=(7, 1 + 0.4 * len(losses)), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(losses, key=losses.get)
    axes.barh(ordered, [losses[name] for name in ordered])
    axes.set(title="Feature importance", xlabel="the metric worsens by, column shuffled")
    return figure


def confusion_matrix(target: np.ndarray, predicted: np.ndarray) -> Figure:
    names = CONTRACT.target.allowed or (False, True)
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes, codes = figure.subplots(), range(len(names))
    options = {"labels": codes, "display_labels": names, "cmap": "Blues", "colorbar": False}
    ConfusionMatrixDisplay.from_predictions(target, predicted, ax=axes, **options)
    axes.set_title("Confusion matrix, held-out rows")
    return figure


def residuals(target: np.ndarray, predicted: np.ndarray) -> Figure:
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    PredictionErrorDisplay.from_predictions(target, predicted, ax=axes)
    axes.set_title("Residuals, held-out rows")
    return figure
