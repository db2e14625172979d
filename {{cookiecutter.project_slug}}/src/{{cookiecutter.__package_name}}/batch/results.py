"""What a run writes for each part of its input: predictions, rejected rows, and their counts.

Both engines write through here, so that the same rows leave the same files.
"""

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contract import CONTRACT
from ..models.predict import Model, Scores, in_own_values
from ..schema.arrow import VIOLATIONS, Checked, arrow_type
from ..tables.json_files import read_json, write_json
from . import parts
from .outputs import PARTS
from .parts import REPEATED

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
    """Where a run's results go while it is at work, and what all of their rows share.

    It can be sent to another process. Files are written to ``unfinished``, a folder of this
    attempt alone, and get their names when they are whole. So nobody sees half a file, several
    may write the same part, and who still works for an attempt that was given up harms nothing.
    """

    staging: Path
    unfinished: Path
    suffix: str
    schema: pa.Schema
    run_id: str
    model_version: str
    started: datetime

    def counts(self, name: str) -> dict | None:
        """What the part of that name came to, None if it is not finished or lacks a file."""
        found = read_json(self.staging / f"{name}.json")
        files = [self.staging / PARTS / f"{name}{self.suffix}"]
        if found and found["rejected"]:
            files.append(self.staging / f"{name}.rejected.csv")
        return found if all(file.exists() for file in files) else None

    @contextmanager
    def part(self, name: str) -> Iterator["PartWriter"]:
        """Write a part; it is finished when the block ends well."""
        writer = PartWriter(self, name)
        with writer.opened:
            yield writer
        writer.finish()

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


class PartWriter:
    """The files of one part while they are written, and its counts so far."""

    def __init__(self, results: Results, name: str) -> None:
        self.results, self.name, self.opened = results, name, ExitStack()
        self.counts = Counter(parts=1, read=0, predicted=0, rejected=0)
        # More than one process may write this part, each to files of its own.
        self._mark = uuid.uuid4().hex
        out = parts.writer(self._unfinished(results.suffix), results.schema)
        self._predictions, self._rejected = self.opened.enter_context(out), None

    def write(self, scored: Scored) -> None:
        if scored.violations.num_rows:
            if not self._rejected:
                out = parts.writer(self._unfinished(".rejected.csv"), REJECTED)
                self._rejected = self.opened.enter_context(out)
            self._rejected.write_table(scored.violations)
        self._predictions.write_batch(scored.predictions)
        self.counts["read"] += scored.predictions.num_rows + scored.rejected
        self.counts["predicted"] += scored.predictions.num_rows
        self.counts["rejected"] += scored.rejected

    def finish(self) -> None:
        """Give the files their names; the counts come last and say that the part is finished."""
        staging, suffix = self.results.staging, self.results.suffix
        rejected = staging / f"{self.name}.rejected.csv"
        if self._rejected:
            self._unfinished(".rejected.csv").replace(rejected)
        else:
            rejected.unlink(missing_ok=True)
        self._unfinished(suffix).replace(staging / PARTS / f"{self.name}{suffix}")
        write_json(self._unfinished(".json"), self.counts)
        self._unfinished(".json").replace(staging / f"{self.name}.json")

    def _unfinished(self, suffix: str) -> Path:
        return self.results.unfinished / f"{self._mark}{suffix}"


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
        keys = rows.keys.take(violations["row"].combine_chunks())
        columns[CONTRACT.key.name] = keys.cast(pa.string())
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
