"""How good predictions are, once their labels are known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .. import model
from ..contract import CONTRACT
from ..errors import of_user
from .predictions import Labelled
from .records import Metric

# Rows of a resample, and how many; intervals of larger windows are scaled from it: the bootstrap
# with m out of n rows, Bickel, Götze and van Zwet (1997).
RESAMPLED_ROWS, RESAMPLES = 5_000, 200
# A 95 % confidence interval: its percentiles, and half its width in standard deviations.
ENDS, WIDTH = (2.5, 97.5), 1.96
CALIBRATION_BINS = 10


def performance(labelled: Labelled, seed: int, intervals: bool) -> list[Metric]:
    """The metrics of ``model.evaluate()``, calibration or bias, and the business metrics.

    :param intervals: whether there are enough rows for confidence intervals.
    """
    resamples = RESAMPLES if intervals else 0
    found = [_calibration(labelled) if CONTRACT.target.classes else _bias(labelled)]
    with of_user("model.evaluate()"):
        found += _measured("performance", model.evaluate, labelled, True, seed, resamples)
    if business := getattr(model, "business", None):
        with of_user("model.business()"):
            found += _measured("business", business, labelled, False, seed, resamples)
    found = [each for each in found if each and np.isfinite(each.value)]
    return found if intervals else [replace(each, low=None, high=None) for each in found]


def _measured(
    kind: str,
    function: Callable,
    labelled: Labelled,
    with_probabilities: bool,
    seed: int,
    resamples: int,
) -> list[Metric]:
    """What a function of model.py returns, with intervals from resamples of the rows."""

    def of(rows) -> dict[str, float]:
        each = labelled.probabilities
        more = (None if each is None else each[rows],) if with_probabilities else ()
        return function(labelled.target[rows], labelled.predicted[rows], *more)

    values, count = of(slice(None)), len(labelled.target)
    size, source = min(count, RESAMPLED_ROWS), np.random.default_rng(seed)
    # Without resamples, the ends are of no use, and left out by the caller.
    others = [of(source.integers(0, count, size)) for _ in range(resamples)] or [values]
    found = []
    for name, value in values.items():
        ends = np.nanpercentile([each.get(name, np.nan) for each in others], ENDS)
        low, high = (value + (ends - value) * np.sqrt(size / count)).tolist()
        found.append(Metric(kind, name, "", float(value), count, low, high))
    return found


def _calibration(labelled: Labelled) -> Metric | None:
    """The expected calibration error: by how much probability and accuracy differ on average.

    Guo et al., On Calibration of Modern Neural Networks (2017), in ten bins of equal width.
    """
    if labelled.probabilities is None:
        return None
    confidence = labelled.probabilities.max(axis=1)
    right = labelled.probabilities.argmax(axis=1) == labelled.target
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, confidence - right, CALIBRATION_BINS)
    rows = len(confidence)
    return Metric("performance", "calibration_error", "", float(np.abs(gaps).sum() / rows), rows)


def _bias(labelled: Labelled) -> Metric:
    """The mean of prediction minus label, in the target's unit."""
    residuals = labelled.predicted - labelled.target
    rows, value = len(residuals), float(residuals.mean())
    half = float(WIDTH * residuals.std() / np.sqrt(rows))
    return Metric("performance", "bias", "", value, rows, value - half, value + half)
