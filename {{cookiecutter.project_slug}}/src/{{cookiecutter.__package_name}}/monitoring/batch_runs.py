"""The predictions of the batch job: its published runs, with the counts in their manifests."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from ..batch.outputs import open_output
from ..contract import CONTRACT
from ..errors import ProjectError
from ..models.artifact import major
from ..models.reference import Reference
from ..schema.arrow import array, as_batch, encode
from ..settings import Settings
from ..tables.reader import table_batches
from .predictions import Labelled, Labels, Predicted, ids
from .records import Period, database, labels

# Rows that are joined with the labels at once.
JOIN_ROWS = 200_000
IDS = [CONTRACT.key.name] if CONTRACT.key else ["run_id", "source", "row"]


class BatchRuns:
    """The runs in ``batch.output``."""

    name = "batch"

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.output = open_output(config.batch.output, "parquet", Path(config.batch.work))

    def period_of(self, run_id: str) -> Period:
        """:raises ProjectError: there is no such run."""
        found = self.output.published(run_id)
        if not found:
            known = "7d, 12h, FROM..TO, or the id of a run"
            raise ProjectError(f"{self.output} has no run {run_id}; a window is {known}.")
        return Period(*map(datetime.fromisoformat, _times(found)), run_id)

    def predicted(self, period: Period) -> list[Predicted]:
        runs: dict[tuple[str, str, str], list[dict]] = {}
        for run in sorted(self._runs(), key=lambda run: _times(run)[1]):
            finished = datetime.fromisoformat(_times(run)[1])
            within = period.start <= finished < period.end
            if run["run_id"] == period.run if period.run else within:
                model = tuple(run["model"][what] for what in ("name", "version", "sha256"))
                runs.setdefault(model, []).append(run)
        found = []
        for (name, version, sha256), of in runs.items():
            rows, rejected = (
                sum(run["rows"][what] for run in of) for what in ("predicted", "rejected")
            )
            last = max(datetime.fromisoformat(_times(run)[1]) for run in of)
            found.append(Predicted(name, version, sha256, period, rows, rejected, last, of))
        return sorted(found, key=lambda each: each.last)

    def _runs(self) -> Iterator[dict]:
        """The runs with predictions under this contract; those of another have other columns."""
        for run in self.output.manifests():
            if major(run["contract"]) == major(CONTRACT.version) and run["rows"]["predicted"]:
                yield run

    def counts(self, predicted: Predicted, reference: Reference) -> dict | None:
        binned = [run["binned"] for run in predicted.of if run.get("binned")]
        if not binned:
            return None
        columns = {
            name: np.sum([each["columns"][name] for each in binned], axis=0)
            for name in reference.columns
        }
        return {
            "columns": columns,
            "prediction": np.sum([each["prediction"] for each in binned], axis=0),
        }

    def inputs(self, predicted: Predicted) -> None:
        return None

    def rejections(self, predicted: Predicted) -> dict[tuple[str, str], int]:
        found: Counter = Counter()
        for run in predicted.of:
            if run["rejected"]:
                for batch in table_batches(run["rejected"], ["column", "reason"]):
                    pairs = zip(*(batch.column(i).to_pylist() for i in range(2)), strict=True)
                    found.update(pairs)
        return dict(found)

    def newest(self, until: datetime) -> datetime | None:
        finished = [datetime.fromisoformat(_times(run)[1]) for run in self._runs()]
        return max((each for each in finished if each < until), default=None)

    def duplicates(self, predicted: Predicted) -> int | None:
        """Counted by 64-bit hashes of the keys, 8 bytes for a row."""
        if not CONTRACT.key:
            return None
        found = 0
        for run in predicted.of:
            hashes, end = np.empty(run["rows"]["predicted"], np.uint64), 0
            for batch in self._large_batches(run, IDS):
                start, end = end, end + batch.num_rows
                if end > len(hashes):
                    raise ProjectError(f"run {run['run_id']} has more rows than its manifest says.")
                keys = ids(batch, IDS).to_numpy(zero_copy_only=False)
                hashes[start:end] = pd.util.hash_array(keys)
            hashes = np.sort(hashes[:end])
            found += int(np.count_nonzero(hashes[1:] == hashes[:-1]))
        return found

    def labelled(self, predicted: Predicted, most: int) -> Labelled:
        found = Labels(most, self.config.training.seed)
        # The newest prediction of a label comes first.
        runs = [(run, self._probabilities(run)) for run in reversed(predicted.of)]
        for known, label in self._labels():
            seen = np.zeros(len(known), bool)
            for run, names in runs:
                for batch in self._large_batches(run, [*IDS, "prediction", *names]):
                    at = pc.index_in(ids(batch, IDS), value_set=known)
                    batch, at = batch.filter(at.is_valid()), at.drop_null().to_numpy()
                    each, first = np.unique(at, return_index=True)
                    each, first = each[~seen[each]], first[~seen[each]]
                    seen[each] = True
                    rows = batch.take(pa.array(first))
                    codes = encode(CONTRACT.target, rows["prediction"])[0]
                    floats = [rows[name].cast(pa.float32()).to_numpy() for name in names]
                    found.add(len(at), label[each], codes, np.stack(floats, 1) if names else None)
        return found.labelled()

    def unmatched(self, of: pa.Array) -> pa.Array:
        missing = of
        for run in reversed([*self._runs()]):
            if not len(missing):
                break
            for batch in self._large_batches(run, IDS):
                there = pc.is_in(missing, value_set=ids(batch, IDS))
                missing = missing.filter(pc.invert(there))
        return missing

    def _labels(self) -> Iterator[tuple[pa.Array, np.ndarray]]:
        """All labels, in blocks: their ids, and their codes (labels,)."""
        query = sa.select(labels.c.id, labels.c.label).order_by(labels.c.id)
        with database(self.config.database) as connection:
            rows = connection.execution_options(yield_per=JOIN_ROWS).execute(query)
            for block in rows.partitions():
                known, texts = zip(*block, strict=True)
                yield pa.array(known, pa.string()), encode(CONTRACT.target, array(list(texts)))[0]

    def _probabilities(self, run: dict) -> list[str]:
        """The columns of a run with the probability of each class."""
        batch = next(iter(self.output.rows(run, None)), None)
        return [name for name in CONTRACT.probabilities if batch and name in batch.schema.names]

    def _large_batches(self, run: dict, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows of a run in batches of about JOIN_ROWS rows."""
        batches, rows = [], 0
        for batch in self.output.rows(run, columns):
            batches.append(batch)
            rows += batch.num_rows
            if rows >= JOIN_ROWS:
                yield as_batch(pa.Table.from_batches(batches))
                batches, rows = [], 0
        if batches:
            yield as_batch(pa.Table.from_batches(batches))


def _times(run: dict) -> tuple[str, str]:
    return run["timings"]["started"], run["timings"]["finished"]
