"""How far the rows of a window are from those that the model was trained on."""

from typing import NamedTuple

import numpy as np
from scipy.stats import chi2_contingency, false_discovery_control, ks_2samp

from ..models.reference import Bins, Reference

# Below 0.1 nothing has changed, above 0.25 much has.
# Siddiqi, Credit Risk Scorecards (2006), ch. 12.
PSI_WARNING, PSI_CRITICAL = 0.1, 0.25
PREDICTION = "prediction"


class Drift(NamedTuple):
    """The drift of a column, or of the predictions, over ``rows`` rows.

    ``p`` is the p-value of the hypothesis that both are of the same distribution, adjusted for the
    number of columns.
    """

    subject: str
    psi: float
    p: float
    rows: int


def drifts(reference: Reference, counts: dict, inputs: np.ndarray | None) -> list[Drift]:
    """The drift of every column and of the predictions, the largest first.

    :param counts: of the window, as ``Reference.named`` returns them.
    :param inputs: rows of the window, float32 (rows, columns), if they are kept.
    """
    subjects, found = [*reference.columns, PREDICTION], []
    for index, subject in enumerate(subjects):
        predictions = subject == PREDICTION and index == len(reference.columns)
        bins = reference.prediction if predictions else reference.columns[subject]
        now = np.array(counts["prediction"] if predictions else counts["columns"][subject])
        values = None if predictions or inputs is None else inputs[:, index]
        before = np.array(bins.counts)
        found.append((subject, psi(before, now), p_value(bins, now, values), int(now.sum())))
    adjusted = false_discovery_control([each[2] for each in found])
    return sorted(
        (
            Drift(name, size, float(p), rows)
            for (name, size, _, rows), p in zip(found, adjusted, strict=True)
        ),
        key=lambda each: -each.psi,
    )


def psi(before: np.ndarray, now: np.ndarray) -> float:
    """The population stability index of two counts in the same bins, both (bins,).

    The sum of (now - before) * ln(now / before) over the shares of the bins. Half a row is added to
    each bin, so that an empty one does not make the index infinite.
    """
    one, two = ((counts + 0.5) / (counts + 0.5).sum() for counts in (before, now))
    return float(np.sum((two - one) * np.log(two / one)))


def p_value(bins: Bins, now: np.ndarray, values: np.ndarray | None) -> float:
    """Of the two-sample Kolmogorov-Smirnov test where values are kept and the reference has a
    sample, otherwise, or if a value is missing, of the chi-square test on the counts."""
    missing = bins.counts[-1] or now[-1]
    if bins.sample and values is not None and len(values) and not missing:
        sample = np.array(bins.sample, np.float32)  # the type of the values: equal ones are equal
        return float(ks_2samp(sample, values).pvalue)
    both = np.array([bins.counts, now])
    both = both[:, both.sum(axis=0) > 0]
    if both.shape[1] < 2 or not both.sum(axis=1).all():
        return 1.0
    return float(chi2_contingency(both).pvalue)
