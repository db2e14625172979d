"""The predictions that the API keeps in the project's database, with their inputs."""

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from ..api.kept import predictions as kept
from ..contract import CONTRACT
from ..models.reference import Reference
from ..schema.arrow import array, as_batch, check, encode
from ..settings import Settings
from ..tables.migrate import require_type
from ..tables.monitored import utc
from .predictions import Labelled, Labels, Predicted
from .records import Period, database, labels

# Drift is computed from at most so many rows, taken at regular distances.
SAMPLE_ROWS = 50_000
# Ids in one statement.
CHUNK_ROWS = 1_000


class ApiPredictions:
    """The rows of ``kept_predictions``. Requests that are refused are counted by the API only."""

    name = "api"

    def __init__(self, config: Settings) -> None:
        self.config = config
        self._sampled: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}

    def predicted(self, period: Period) -> list[Predicted]:
        columns = kept.c.model, kept.c.model_version
        last = sa.func.max(kept.c.predicted_at)
        query = sa.select(*columns, sa.func.count(), last).where(*_within(period))
        with database(self.config.database) as connection:
            require_type(connection, self.config.database, CONTRACT.target)
            rows = connection.execute(query.group_by(*columns)).all()
        found = [
            Predicted(name, version, None, period, count, None, utc(newest))
            for name, version, count, newest in rows
        ]
        return sorted(found, key=lambda each: each.last)

    def counts(self, predicted: Predicted, reference: Reference) -> dict | None:
        return reference.named(reference.count(*self._sample(predicted)))

    def inputs(self, predicted: Predicted) -> np.ndarray:
        return self._sample(predicted)[0]

    def rejections(self, predicted: Predicted) -> dict[tuple[str, str], int]:
        return {}

    def duplicates(self, predicted: Predicted) -> None:
        """Clients may well ask twice about the same row."""

    def newest(self, until: datetime) -> datetime | None:
        query = sa.select(sa.func.max(kept.c.predicted_at)).where(kept.c.predicted_at < until)
        with database(self.config.database) as connection:
            found = connection.scalar(query)
        return found and utc(found)

    def labelled(self, predicted: Predicted, most: int) -> Labelled:
        joined = kept.join(labels, labels.c.id == kept.c.row_id)
        those = *_of(predicted), kept.c.prediction.is_not(None)
        count = sa.select(sa.func.count()).select_from(joined).where(*those)
        columns = labels.c.id, labels.c.label, kept.c.prediction, kept.c.probability
        query = sa.select(*columns).select_from(joined).order_by(kept.c.id)
        with database(self.config.database) as connection:
            rows = connection.scalar(count)
            sample = kept.c.id % _step(rows, most) == 0
            found = connection.execute(query.where(*those, sample)).all()
        newest = {row.id: row for row in found}.values()  # the last one of each label
        collected = Labels(most, self.config.training.seed)
        target, codes = (
            _codes([getattr(row, name) for row in newest]) for name in ("label", "prediction")
        )
        probability = np.array([row.probability for row in newest], np.float64)
        collected.add(rows, target, codes, _both(codes, probability))
        return collected.labelled()

    def unmatched(self, ids: pa.Array) -> pa.Array:
        missing = []
        with database(self.config.database) as connection:
            for first in range(0, len(ids), CHUNK_ROWS):
                chunk = ids[first : first + CHUNK_ROWS].to_pylist()
                query = sa.select(kept.c.row_id).where(kept.c.row_id.in_(chunk))
                there = set(connection.scalars(query))
                missing += [each for each in chunk if each not in there]
        return pa.array(missing, pa.string())

    def _sample(self, predicted: Predicted) -> tuple[np.ndarray, np.ndarray]:
        """The numeric form of at most SAMPLE_ROWS rows, and of their predictions."""
        key = predicted.name, predicted.version
        if key not in self._sampled:
            query = sa.select(kept.c.inputs, kept.c.prediction)
            sample = kept.c.id % _step(predicted.rows, SAMPLE_ROWS) == 0
            query = query.where(*_of(predicted), sample)
            with database(self.config.database) as connection:
                rows = connection.execute(query).all()
            self._sampled[key] = (
                _encoded([row.inputs for row in rows]),
                _codes([row.prediction for row in rows]),
            )
        return self._sampled[key]


def _step(rows: int, most: int) -> int:
    """Every how manieth row is taken, an odd number: versions may alternate."""
    return 1 if rows <= most else -(-rows // most) | 1


def _within(period: Period) -> tuple[Any, ...]:
    return kept.c.predicted_at >= period.start, kept.c.predicted_at < period.end


def _of(predicted: Predicted) -> tuple[Any, ...]:
    mine = kept.c.model == predicted.name, kept.c.model_version == predicted.version
    return *mine, *_within(predicted.period)


def _encoded(inputs: list[dict]) -> np.ndarray:
    """Kept inputs in numeric form; what the contract does not have any more is left out."""
    columns = {name: [row.get(name) for row in inputs] for name in CONTRACT.names}
    return check(CONTRACT, as_batch(columns)).matrix


def _codes(values: list) -> np.ndarray:
    return encode(CONTRACT.target, array(values))[0]


def _both(codes: np.ndarray, probability: np.ndarray) -> np.ndarray | None:
    """The probabilities of two classes, from that of the predicted one."""
    if CONTRACT.target.classes != 2 or not len(codes) or np.isnan(probability).any():
        return None
    second = np.where(codes == 1, probability, 1 - probability)
    return np.stack([1 - second, second], axis=1)
