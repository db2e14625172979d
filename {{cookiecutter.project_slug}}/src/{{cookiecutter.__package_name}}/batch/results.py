"""What a run writes for each section of its input: predictions, rejected rows, and their counts.

Both engines use this module, so that the same rows give the same files.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contract import CONTRACT
from ..errors import ProjectError
from ..models.predict import Model, in_own_values
from ..models.reference import Reference
from ..schema.arrow import VIOLATIONS, arrow_type, shown
from ..tables.storage import CloudFolder, LocalFolder
from .formats import REPEATED, writer
from .sections import Section

# The counts for a model without a reference.
NONE = np.empty(0, np.int64)
REJECTED = pa.schema(
    [
        ("source", pa.string()),
        *([(CONTRACT.key.name, pa.string())] if CONTRACT.key else []),
        *VIOLATIONS,
    ]
)


class Scored(NamedTuple):
    """The result of a batch of ``rows`` rows: predictions, and one violation for each bad value.

    ``binned`` are the counts of ``reference.Reference.count``.
    """

    rows: int
    predictions: pa.RecordBatch
    violations: pa.Table
    binned: np.ndarray


@dataclass(frozen=True)
class Results:
    """Where an attempt at a run writes, and the values that all of its rows share.

    It can be sent to another process. Writing a part again replaces it with the same rows, and a
    task that still writes for an abandoned attempt does no harm.
    """

    attempt: LocalFolder | CloudFolder
    suffix: str
    schema: pa.Schema
    batch_rows: int
    run_id: str
    model_version: str
    reference: Reference | None
    started: datetime

    def write(self, model: Model, section: Section, spread: Callable = map) -> dict:
        """Score a section and write its part; returns its name and the counts of its rows.

        :param spread: a function like ``map``, which yields the results in order.
        :raises ProjectError: the file has changed since it was split into sections.
        """
        counts, name = Counter(read=0, predicted=0), section.name + self.suffix
        binned = self.reference.none() if self.reference else NONE
        with ExitStack() as opened:
            predictions, rejected = self._open(opened, name, self.schema), None
            batches = opened.enter_context(closing(self._batches(section)))
            for scored in spread(partial(self._score, model), batches):
                if scored.violations.num_rows:
                    rejected = rejected or self._open(opened, rejected_name(name), REJECTED)
                    rejected.write_table(scored.violations)
                predictions.write_batch(scored.predictions)
                counts["read"] += scored.rows
                counts["predicted"] += scored.predictions.num_rows
                binned += scored.binned
            if section.rows not in (None, counts["read"]):
                raise ProjectError(f"{section.source} was changed while it was read.")
        counts["rejected"] = counts["read"] - counts["predicted"]
        return {"part": name, **counts, "binned": binned.tolist()}

    def _open(self, opened: ExitStack, name: str, schema: pa.Schema):
        return opened.enter_context(writer(opened.enter_context(self.attempt.file(name)), schema))

    def _batches(self, section: Section) -> Iterator[tuple[pa.RecordBatch, str, int]]:
        """Each batch, its source, and the number of its first row in the source."""
        first = section.start
        for batch in section.batches(CONTRACT.needed, self.batch_rows):
            yield batch, section.source, first
            first += batch.num_rows

    def _score(self, model: Model, located: tuple[pa.RecordBatch, str, int]) -> Scored:
        """Validate and score a batch.

        A row is rejected if its prediction is not finite, for example because an estimator without
        imputation gets a missing value.
        """
        batch, source, first = located
        checked = CONTRACT.check(batch)
        rows = np.flatnonzero(checked.valid)
        every = len(rows) == batch.num_rows
        matrix = checked.matrix if every else checked.matrix[rows]
        scores = model.score(matrix)
        binned = self.reference.count(matrix, scores.codes) if self.reference else NONE
        values, finite = in_own_values(scores.codes)
        if not finite.all():
            found = np.full(batch.num_rows, np.nan)
            found[rows] = scores.codes
            checked.reject(rows[~finite], "prediction", pa.array(found), "is not finite")
            rows, values, scores = rows[finite], values[finite], scores.of(finite)
        columns = {
            "source": source,
            "row": rows + first,
            "prediction": values,
            "probability": scores.probability,
            "model_version": self.model_version,
            "run_id": self.run_id,
            "predicted_at": self.started,
        }
        names, each = CONTRACT.probabilities, scores.probabilities
        columns |= zip(names, [None] * len(names) if each is None else each.T, strict=True)
        if CONTRACT.key:
            columns[CONTRACT.key.name] = checked.keys.take(pa.array(rows))
        arrays = [_column(columns[field.name], len(rows), field.type) for field in self.schema]
        predictions = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        violations = _rejected(checked.violations, *located)
        return Scored(batch.num_rows, predictions, violations, binned)


def _rejected(violations: pa.Table, batch: pa.RecordBatch, source: str, first: int) -> pa.Table:
    """Violations with the source, the key and the number of the row in the source."""
    columns = {name: violations[name] for name in violations.column_names}
    columns["source"] = pa.repeat(source, violations.num_rows)
    if CONTRACT.key:
        key = batch.column(CONTRACT.key.name)
        columns[CONTRACT.key.name] = shown(key, violations["row"].to_numpy())
    columns["row"] = pc.add(violations["row"], first)
    return pa.table([columns[name] for name in REJECTED.names], schema=REJECTED)


def rejected_name(part: str) -> str:
    """The name of the file next to a part that holds its rejected rows, if there are any."""
    return f"{part.partition('.')[0]}.rejected.csv"


def predictions_schema(model: Model, most_classes: int) -> pa.Schema:
    """The columns of the predictions; a row is identified by its key, or its source and number.

    :param most_classes: with more classes, there are no columns for the probability of each.
    """
    key, target = CONTRACT.key, CONTRACT.target
    which = [(key.name, arrow_type(key))] if key else [("source", REPEATED), ("row", pa.int64())]
    probabilities = ["probability"] if model.metadata["probabilities"] else []
    if probabilities and target.classes <= most_classes:
        probabilities += CONTRACT.probabilities
        if len({name.casefold() for name in probabilities}) < len(probabilities):
            raise ProjectError(
                "classes that differ only in capitals have no columns of their own in a database: "
                "set batch.class_probabilities = 0."
            )
    fields = [
        *which,
        ("prediction", arrow_type(target)),
        *((name, pa.float32()) for name in probabilities),
        ("model_version", REPEATED),
        ("run_id", REPEATED),
        ("predicted_at", pa.timestamp("us", "UTC")),
    ]
    # Columns declared as not null are faster to write.
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def _column(values, count: int, kind: pa.DataType) -> pa.Array:
    """A column of ``count`` values; a single value is repeated."""
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray):
        return pa.array(values, kind)
    return _repeated(values, count, kind)


# Most batches have the same length, so a run's constant columns are made once and reused.
@lru_cache(maxsize=16)
def _repeated(value: Any, count: int, kind: pa.DataType) -> pa.Array:
    if kind == REPEATED:
        return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [value])
    return pa.repeat(pa.scalar(value, kind), count)
