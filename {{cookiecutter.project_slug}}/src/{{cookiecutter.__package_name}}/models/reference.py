"""The reference of a model: the distribution of its training rows, to detect drift.

Scoring counts rows in the same bins, so that drift can be measured without keeping the rows.
"""

import numpy as np
from pydantic import BaseModel

from ..contract import CONTRACT
from ..schema import Column

# Numbers and dates are counted in ranges, each with a tenth of the training rows.
DECILES = np.linspace(0.1, 0.9, 9)
# Values of a number that are kept for the Kolmogorov-Smirnov test, chosen at random.
SAMPLE = 500


class Bins(BaseModel):
    """Counts of a column's values by range or by class; the last one is of missing values.

    A range includes its upper edge; the last range has none. Classes have no edges. ``sample`` are
    values of a number.
    """

    edges: list[float] | None
    counts: list[int]
    sample: list[float] = []

    def count(self, values: np.ndarray) -> np.ndarray:
        """Count other values, in numeric form, in the same bins: int64 (bins,)."""
        unknown = np.isnan(values)
        if self.edges is None:
            last = len(self.counts) - 1
            return np.bincount(np.where(unknown, last, values).astype(np.intp), minlength=last + 1)
        missing = np.count_nonzero(unknown)
        # Several times faster than a search for each value.
        up_to = [np.count_nonzero(values <= edge) for edge in self.edges]
        return np.diff([0, *up_to, len(values) - missing, len(values)])


class Reference(BaseModel):
    """The bins of every column, and of the predictions."""

    columns: dict[str, Bins]
    prediction: Bins

    def none(self) -> np.ndarray:
        """The counts for no rows."""
        return self.count(np.empty((0, len(self.columns)), np.float32), np.empty(0))

    def count(self, matrix: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """All counts for other rows and their predictions, in one int64 array.

        :param matrix: float32 (rows, columns).
        :param predictions: in numeric form, (rows,).
        """
        columns = zip(self.columns.values(), np.ascontiguousarray(matrix.T), strict=True)
        counts = [bins.count(values) for bins, values in columns]
        return np.concatenate([*counts, self.prediction.count(predictions)])

    def named(self, counts: np.ndarray) -> dict:
        """The counts that ``count`` returned, by column and for the predictions."""
        ends = np.cumsum([len(bins.counts) for bins in self.columns.values()])
        *columns, prediction = (part.tolist() for part in np.split(counts, ends))
        return {"columns": dict(zip(self.columns, columns, strict=True)), "prediction": prediction}


def reference_of(model) -> Reference | None:
    """The reference that a model was saved with."""
    saved = model.metadata.get("reference")
    return Reference.model_validate(saved) if saved else None


def reference(matrix: np.ndarray, predictions: np.ndarray) -> Reference:
    """The reference for training rows, float32 (rows, columns), and predictions on other rows."""
    return Reference(
        columns={
            column.name: _bins(column, values)
            for column, values in zip(CONTRACT.columns, matrix.T, strict=True)
        },
        prediction=_bins(CONTRACT.target, predictions),
    )


def _bins(column: Column, values: np.ndarray) -> Bins:
    edges, size, sample = None, column.classes + 1, []
    if not column.classes:
        known = values[~np.isnan(values)]
        few = np.random.default_rng(0).permutation(known)[:SAMPLE]
        # Nine digits give the same float32 again.
        sample = [float(f"{value:.9g}") for value in few]
        ends = np.quantile(known, DECILES) if len(known) else known
        edges = np.unique(ends.astype(np.float32)).tolist()
        size = len(edges) + 2
    bins = Bins(edges=edges, counts=[0] * size, sample=sample)
    bins.counts = bins.count(values).tolist()
    return bins
