"""From a model and rows to predictions: the code that every flavor uses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..contract import CONTRACT
from ..errors import ProjectError

# A runtime's output: labels (rows,), and class probabilities (rows, classes) or None.
Raw = tuple[np.ndarray, np.ndarray | None]


class Scores(NamedTuple):
    """Predictions as ``codes``, the target's numeric form (NaN: none), with their ``probability``,
    both (rows,), and ``probabilities`` (rows, classes). A model may have no probabilities."""

    codes: np.ndarray
    probability: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    def of(self, rows: np.ndarray) -> "Scores":
        """The scores of some rows."""
        return Scores(*(part if part is None else part[rows] for part in self))


class Model:
    """A model that predicts, with the interface of ``mlflow.pyfunc.PythonModel``."""

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

    # No type hints: MLflow would derive the signature from them, which comes from the contract.
    def predict(self, context, model_input, params=None):
        return make_predictions(self, model_input)

    def score(self, matrix: np.ndarray) -> Scores:
        """``matrix`` is float32 of shape (rows, columns), as the contract encodes it."""
        if not len(matrix):
            return Scores(np.empty(0))
        labels, probabilities = self.run(matrix)
        if probabilities is None:
            return Scores(labels)
        # Training requires every class, so that a class's code is its column.
        probability = probabilities[np.arange(len(labels)), labels.astype(np.intp)]
        # For a missing value that its estimator would refuse, an export still gives some class.
        known = ~np.isnan(probability)
        codes = labels if known.all() else np.where(known, labels, np.nan)
        return Scores(codes, probability, probabilities)


def in_own_values(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions as values of the target, and a mask of those that are finite, both (rows,).

    A float that is not finite stays as it is; other types have no value for it, and get that of 0.
    """
    finite = np.isfinite(codes)
    whole = CONTRACT.target.type == "float" or finite.all()
    return CONTRACT.target.decode(codes if whole else np.where(finite, codes, 0)), finite


def make_predictions(loaded_model: Model, data: Any) -> list:
    """The predictions for ``data``, one for each row.

    :param data: a mapping of column to values, a DataFrame, or an Arrow table or batch.
    :raises ProjectError: a column is missing, a value breaks the contract, or a prediction is not
        finite and the target is not a float.
    """
    values, finite = in_own_values(loaded_model.score(CONTRACT.encode(data)).codes)
    if values.dtype.kind != "f" and not finite.all():
        raise ProjectError(f"row {np.argmin(finite)}: the prediction is not finite.")
    return values.tolist()
