"""What a run writes for each section of its input: predictions, rejected rows, and their counts.

Both engines write through here, so that the same rows leave the same files.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contract import CONTRACT
from ..errors import ProjectError
from ..models.predict import Model, Scores, in_own_values
from ..schema.arrow import VIOLATIONS, Checked, arrow_type, shown
from ..tables.storage import CloudFolder, LocalFolder
from .formats import REPEATED, writer
from .sections import Section

REJECTED = pa.schema(
    [
        ("source", pa.string()),
        *([(CONTRACT.key.name, pa.string())] if CONTRACT.key else []),
        *VIOLATIONS,
    ]
)


class Rows(NamedTuple):
    """A batch after validation; ``first`` is the number of its first row within ``source``.

    ``keys`` are those of all its rows as they came, None where the contract names no key.
    """

    source: str
    first: int
    checked: Checked
    keys: pa.Array | None


class Scored(NamedTuple):
    """What a batch comes to; ``rejected`` counts the rows that ``violations`` are about."""

    predictions: pa.RecordBatch
    violations: pa.Table
    rejected: int


@dataclass(frozen=True)
class Results:
    """Where an attempt at a run writes, and what all of its rows share.

    It can be sent to another process. Whoever writes a part that was written already replaces it
    by the same rows, and whoever still works for an attempt that was given up harms nothing.
    """

    attempt: LocalFolder | CloudFolder
    suffix: str
    schema: pa.Schema
    batch_rows: int
    run_id: str
    model_version: str
    started: datetime

    def write(self, model: Model, section: Section, spread: Callable = map) -> dict:
        """Score a section and write its part; returns its name and the counts of its rows.

        :param spread: what calls a function on each batch; gives the answers in their order.
        :raises ProjectError: the file has changed since it was cut into sections.
        """
        counts = Counter(read=0, predicted=0, rejected=0)
        with ExitStack() as opened:
            rejected, name = None, section.name + self.suffix
            predictions = self._open(opened, name, self.schema)
            for scored in spread(partial(self._score, model), self._batches(section)):
                if scored.violations.num_rows:
                    rejected = rejected or self._open(opened, rejected_name(section.name), REJECTED)
                    rejected.write_table(scored.violations)
                predictions.write_batch(scored.predictions)
                counts["predicted"] += scored.predictions.num_rows
                counts["rejected"] += scored.rejected
            counts["read"] = counts["predicted"] + counts["rejected"]
            if section.rows not in (None, counts["read"]):
                raise ProjectError(f"{section.source} was changed while it was read.")
        return {"part": name, **counts}

    def _open(self, opened: ExitStack, name: str, schema: pa.Schema):
        return opened.enter_context(writer(opened.enter_context(self.attempt.file(name)), schema))

    def _batches(self, section: Section) -> Iterator[tuple[pa.RecordBatch, str, int]]:
        first = section.start
        for batch in section.batches(CONTRACT.needed, self.batch_rows):
            yield batch, section.source, first
            first += batch.num_rows

    def _score(self, model: Model, located: tuple[pa.RecordBatch, str, int]) -> Scored:
        rows = check(*located)
        return self.scored(rows, score_valid(model, rows.checked))

    def scored(self, rows: Rows, scores: Scores) -> Scored:
        """The rows of both files from the scores of the valid rows, in numeric form.

        A prediction that is no number (an estimator without imputation, given a missing value)
        makes its row a rejected one.
        """
        checked = rows.checked
        valid, values, probability = finite(checked, *scores)
        columns = {
            "source": rows.source,
            "row": valid + rows.first,
            "prediction": values,
            "probability": probability,
            "model_version": self.model_version,
            "run_id": self.run_id,
            "predicted_at": self.started,
        }
        if CONTRACT.key:
            columns[CONTRACT.key.name] = checked.keys.take(pa.array(valid))
        arrays = [_column(columns[field.name], len(valid), field.type) for field in self.schema]
        predictions = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        return Scored(predictions, _located(rows), len(checked.valid) - len(valid))


def rejected_name(part: str) -> str:
    """The file of the rejected rows beside a part, if there are any."""
    return f"{part.partition('.')[0]}.rejected.csv"


def predictions_schema(model: Model) -> pa.Schema:
    """The columns of the predictions; a row is named by its key, or by its source and number."""
    key, target = CONTRACT.key, CONTRACT.target
    which = [(key.name, arrow_type(key))] if key else [("source", REPEATED), ("row", pa.int64())]
    probability = [("probability", pa.float32())] if model.metadata["probabilities"] else []
    fields = [
        *which,
        ("prediction", arrow_type(target)),
        *probability,
        ("model_version", REPEATED),
        ("run_id", REPEATED),
        ("predicted_at", pa.timestamp("us", "UTC")),
    ]
    # A column that is never null is quicker to write.
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def check(batch: pa.RecordBatch, source: str, first: int) -> Rows:
    """Validate a batch and make it numbers."""
    keys = batch.column(CONTRACT.key.name) if CONTRACT.key else None
    return Rows(source, first, CONTRACT.check(batch), keys)


def valid_matrix(checked: Checked) -> np.ndarray:
    """The rows to score: float32 of shape (valid, columns)."""
    return checked.matrix if checked.valid.all() else checked.matrix[checked.valid]


def score_valid(model: Model, checked: Checked) -> Scores:
    """Predictions of the valid rows in numeric form, and their probabilities or None: (valid,)."""
    return model.codes(valid_matrix(checked))


def finite(checked: Checked, codes: np.ndarray, probability: np.ndarray | None):
    """Indices of the rows whose prediction counts, those predictions and their probabilities.

    The other rows are marked as invalid.
    """
    rows = np.flatnonzero(checked.valid)
    values, known = in_own_values(codes)
    if not known.all():
        shown = np.full(len(checked.valid), np.nan)
        shown[rows] = codes
        checked.reject(rows[~known], "prediction", pa.array(shown), "is not finite")
        rows, values = rows[known], values[known]
        probability = None if probability is None else probability[known]
    return rows, values, probability


def _located(rows: Rows) -> pa.Table:
    """Violations with the source, the key and the number of the row in the source."""
    violations = rows.checked.violations
    columns = {name: violations[name] for name in violations.column_names}
    columns["source"] = _column(rows.source, violations.num_rows, pa.string())
    if CONTRACT.key:
        columns[CONTRACT.key.name] = shown(rows.keys, violations["row"].to_numpy())
    columns["row"] = pc.add(violations["row"], rows.first)
    return pa.table([columns[name] for name in REJECTED.names], schema=REJECTED)


def _column(values, count: int, kind: pa.DataType) -> pa.Array:
    """A column of ``count`` values; a single one is repeated."""
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray):
        return pa.array(values, kind)
    return _repeated(values, count, kind)


# Most batches are of one length, so that a run's constant columns are made once.
@lru_cache(maxsize=16)
def _repeated(value: Any, count: int, kind: pa.DataType) -> pa.Array:
    if kind == REPEATED:
        return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [value])
    return pa.repeat(pa.scalar(value, kind), count)
