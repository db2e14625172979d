"""The reference of a model: how the rows it was trained on are spread, for drift to be told by.

Whoever scores counts rows into the same bins, so that nobody has to keep them for that.
"""

import numpy as np
from pydantic import BaseModel

from ..contract import CONTRACT
from ..schema import Column

# Numbers and dates are counted by ranges, each with a tenth of the rows of training.
DECILES = np.linspace(0.1, 0.9, 9)


class Bins(BaseModel):
    """How many values of a column are in each range, or of each class; and last, missing.

    A range ends at its edge, which is in it; the last one has no end. Classes have no edges.
    """

    edges: list[float] | None
    counts: list[int]

    def count(self, values: np.ndarray) -> np.ndarray:
        """The same of other values, in numeric form: int64 (bins,)."""
        unknown = np.isnan(values)
        if self.edges is None:
            last = len(self.counts) - 1
            return np.bincount(np.where(unknown, last, values).astype(np.intp), minlength=last + 1)
        missing = np.count_nonzero(unknown)
        # Several times as fast as a search for each value.
        up_to = [np.count_nonzero(values <= edge) for edge in self.edges]
        return np.diff([0, *up_to, len(values) - missing, len(values)])


class Reference(BaseModel):
    """The bins of every column, and of the predictions."""

    columns: dict[str, Bins]
    prediction: Bins

    def none(self) -> np.ndarray:
        """The counts of no rows."""
        return self.count(np.empty((0, len(self.columns)), np.float32), np.empty(0))

    def count(self, matrix: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """All counts of other rows and their predictions, one behind the other: int64.

        :param matrix: float32 (rows, columns).
        :param predictions: in numeric form, (rows,).
        """
        columns = zip(self.columns.values(), np.ascontiguousarray(matrix.T), strict=True)
        counts = [bins.count(values) for bins, values in columns]
        return np.concatenate([*counts, self.prediction.count(predictions)])

    def named(self, counts: np.ndarray) -> dict:
        """Counts of ``count``, by column and of the predictions."""
        ends = np.cumsum([len(bins.counts) for bins in self.columns.values()])
        *columns, prediction = (part.tolist() for part in np.split(counts, ends))
        return {"columns": dict(zip(self.columns, columns, strict=True)), "prediction": prediction}


def reference_of(model) -> Reference | None:
    """The reference that a model was saved with."""
    saved = model.metadata.get("reference")
    return Reference.model_validate(saved) if saved else None


def reference(matrix: np.ndarray, predictions: np.ndarray) -> Reference:
    """The reference of training rows, float32 (rows, columns), and of predictions on others."""
    return Reference(
        columns={
            column.name: _bins(column, values)
            for column, values in zip(CONTRACT.columns, matrix.T, strict=True)
        },
        prediction=_bins(CONTRACT.target, predictions),
    )


def _bins(column: Column, values: np.ndarray) -> Bins:
    edges, size = None, column.classes + 1
    if not column.classes:
        known = values[~np.isnan(values)]
        edges = np.unique(np.quantile(known, DECILES).astype(np.float32)).tolist()
        size = len(edges) + 2
    bins = Bins(edges=edges, counts=[0] * size)
    bins.counts = bins.count(values).tolist()
    return bins
