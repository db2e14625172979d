"""From a model and rows to predictions: the one path that every flavor uses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..contract import CONTRACT
from ..errors import ProjectError

# What a model's runtime gives: labels (rows,), and class probabilities (rows, classes) or None.
Raw = tuple[np.ndarray, np.ndarray | None]


class Scores(NamedTuple):
    """Predictions in the target's numeric form, NaN for none, and the probability of each, both
    (rows,); and the probabilities (rows, classes). A model may have no probabilities."""

    codes: np.ndarray
    probability: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    def of(self, rows: np.ndarray) -> "Scores":
        """Those of some rows."""
        return Scores(*(part if part is None else part[rows] for part in self))


class Model:
    """A model as it serves, with the interface of ``mlflow.pyfunc.PythonModel``."""

    def __init__(self, metadata: dict, run: Callable[[np.ndarray], Raw]) -> None:
        self.metadata = metadata
        self.run = run

    @property
    def name(self) -> str:
        return self.metadata["name"]

    @property
    def version(self) -> str:
        """The registry's version, or the start of the digest for a model outside a registry."""
        return self.metadata.get("version") or self.metadata["sha256"][:12]

    # Without type hints, from which MLflow would derive a signature; the contract gives it one.
    def predict(self, context, model_input, params=None):
        return make_predictions(self, model_input)

    def score(self, matrix: np.ndarray) -> Scores:
        """``matrix`` is float32 of shape (rows, columns), as the contract encodes it."""
        if not len(matrix):
            return Scores(np.empty(0))
        labels, probabilities = self.run(matrix)
        if probabilities is None:
            return Scores(labels)
        # Training has seen every class, so that a class's code is its place.
        probability = probabilities[np.arange(len(labels)), labels.astype(np.intp)]
        # An export names some class where its estimator would have refused a missing value.
        known = ~np.isnan(probability)
        codes = labels if known.all() else np.where(known, labels, np.nan)
        return Scores(codes, probability, probabilities)


def in_own_values(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions in the target's own values, and which of them are finite, both (rows,).

    Of a float the others stay what they are; another type has no value for them.
    """
    finite = np.isfinite(codes)
    whole = CONTRACT.target.type == "float" or finite.all()
    return CONTRACT.target.decode(codes if whole else np.where(finite, codes, 0)), finite


def make_predictions(loaded_model: Model, data: Any) -> list:
    """The predictions for ``data``, one for each row.

    :param data: a mapping of column to values, a DataFrame, or an Arrow table or batch.
    :raises ProjectError: a column is missing, a value breaks the contract, or a prediction is not
        finite, which the target's type cannot say.
    """
    values, finite = in_own_values(loaded_model.score(CONTRACT.encode(data)).codes)
    if values.dtype.kind != "f" and not finite.all():
        raise ProjectError(f"row {np.argmin(finite)}: the prediction is not finite.")
    return values.tolist()
