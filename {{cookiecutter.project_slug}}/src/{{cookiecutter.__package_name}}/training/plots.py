"""Plots of a serving artifact on the held-out rows, kept with the training run."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .. import model
from ..contract import CONTRACT
from ..models.predict import Model
from ..settings import Training

SHUFFLES = 5


def draw(served: Model, split, folder: Path, config: Training) -> list[Path]:
    """The plots that fit the target, as PNG files in ``folder``."""
    labels, _ = served.run(split.holdout)
    figures = {"feature_importance": feature_importance(importance(served, split, config))}
    if CONTRACT.target.type in ("category", "boolean"):
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
    random = np.random.default_rng(config.seed)

    def metric(matrix: np.ndarray) -> float:
        return model.evaluate(split.holdout_target, *served.run(matrix))[config.metric]

    best = metric(split.holdout)
    losses = {}
    for index, column in enumerate(CONTRACT.columns):
        found = []
        for _ in range(SHUFFLES):
            shuffled = split.holdout.copy()
            random.shuffle(shuffled[:, index])
            found.append(best - metric(shuffled))
        losses[column.name] = float(np.mean(found))
    lower_is_better = config.metric in config.maximum
    return {name: -loss if lower_is_better else loss for name, loss in losses.items()}


def feature_importance(losses: dict[str, float]) -> Figure:
    figure = Figure(figsize=(7, 1 + 0.4 * len(losses)), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(losses, key=losses.get)
    axes.barh(ordered, [losses[name] for name in ordered])
    axes.set(title="Feature importance", xlabel="the metric worsens by, column shuffled")
    return figure


def confusion_matrix(target: np.ndarray, predicted: np.ndarray) -> Figure:
    """Rows are the true classes, columns the predicted ones."""
    names = list(map(str, CONTRACT.target.allowed or (False, True)))
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (target.astype(int), predicted.astype(int)), 1)
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    for row, column in np.ndindex(counts.shape):
        dark = counts[row, column] > counts.max() / 2
        color = "white" if dark else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=color)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(title="Confusion matrix, held-out rows", xlabel="predicted", ylabel="true")
    return figure


def residuals(target: np.ndarray, predicted: np.ndarray) -> Figure:
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(predicted, target - predicted, s=12, alpha=0.7)
    axes.axhline(0, color="black", linewidth=1)
    axes.set(title="Residuals, held-out rows", xlabel="predicted", ylabel="true − predicted")
    return figure
