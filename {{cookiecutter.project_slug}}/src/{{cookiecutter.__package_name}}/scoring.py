"""One run's way from the input to published predictions: read, validate, predict, write.

The input is cut into parts. Each part is validated, scored and written on its own, by as many
threads as there are cores, to a staging folder. Whatever happens in between, a run that is started
again goes on with the parts that are missing; when all are there, they are published.
"""

import os
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from . import parts
from .arrow import VIOLATIONS, Checked, arrow_type
from .contract import CONTRACT
from .databases import redacted
from .errors import ProjectError
from .json_files import read_json, write_json
from .outputs import PARTS
from .parts import REPEATED, Part, Window
from .predict import Model
from .settings import Settings

PLAN = "plan.json"
# Parts that are read and written at a time; their batches are scored by all the workers.
PARTS_AT_ONCE = 2
REJECTED = pa.schema(
    [
        ("source", pa.string()),
        *([(CONTRACT.key.name, pa.string())] if CONTRACT.key else []),
        *VIOLATIONS,
    ]
)
# What a row in flight takes for each of its columns: as text, as number, encoded, predicted.
BYTES_PER_CELL = 48


class Run:
    """One run's parts on their way from the input to the staging folder.

    Its state is on disk: ``plan.json``, and for each finished part its predictions, its rejected
    rows if any, and a file of counts that is written last and so marks the part as finished.
    """

    def __init__(
        self,
        run_id: str,
        uri: str,
        output,
        model: Model,
        config: Settings,
        paths: list[Path],
        window: Window | None = None,
    ) -> None:
        self.run_id, self.uri, self.output, self.model = run_id, uri, output, model
        self.config, self.paths, self.window = config, paths, window
        self.staging = output.staging / run_id
        self.workers = config.batch.workers or os.cpu_count() or 1
        self.stop = threading.Event()
        self.schema = predictions_schema(model)

    def execute(self) -> dict:
        """Score what is missing, and publish; returns the manifest."""
        began = time.perf_counter()
        plan = self._begin()
        self.started = datetime.fromisoformat(plan["started"])
        counts, sha256 = self._score_parts(plan["rows_per_part"])
        rejected = self._gather_rejected(counts)
        manifest = self._manifest(counts, rejected, sha256, time.perf_counter() - began)
        scored = sorted((self.staging / PARTS).glob(f"part-*{self.output.suffix}"))
        self.output.publish(self.run_id, scored, self.schema, manifest)
        shutil.rmtree(self.staging, ignore_errors=True)
        with suppress(OSError):
            self.output.staging.rmdir()
        return manifest

    def _begin(self) -> dict:
        """The plan to follow: that of an interrupted run over the same files and model, or new."""
        for where, names in parts.column_names(self.uri, self.paths).items():
            CONTRACT.require(names, where)
        stats = [(path, path.stat()) for path in self.paths]
        plan = {
            "input": redacted(self.uri),
            "output": str(self.output),
            "model": self.model.metadata["sha256"],
            "suffix": self.output.suffix,
            "found": [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats],
        }
        before = read_json(self.staging / PLAN) or {}
        # A query may give other rows now, so only files are taken up again where they were left.
        if self.paths and plan == {key: before.get(key) for key in plan}:
            return before
        shutil.rmtree(self.staging, ignore_errors=True)
        (self.staging / PARTS).mkdir(parents=True)
        in_flight = (PARTS_AT_ONCE + 2) * BYTES_PER_CELL * (len(CONTRACT.columns) + 2)
        rows = max(1, (self.config.batch.memory_mb << 20) // in_flight)
        plan["rows_per_part"] = min(rows, self.config.batch.part_rows)
        plan["started"] = datetime.now(UTC).isoformat()
        write_json(self.staging / PLAN, plan)
        return plan

    def _score_parts(self, rows_per_part: int) -> tuple[Counter, str | None]:
        """Score the missing parts, a bounded number of them in memory; hash the input meanwhile."""
        counts: Counter = Counter(parts=0, read=0, predicted=0, rejected=0)
        inputs = parts.cut(self.uri, self.paths, CONTRACT.needed, rows_per_part, self.window)
        total = parts.row_count(self.paths)
        with (
            tqdm(total=total, desc="Scoring", unit=" rows", unit_scale=True, disable=None) as bar,
            ThreadPoolExecutor(self.workers) as self.scorers,
            ThreadPoolExecutor(PARTS_AT_ONCE) as pool,
        ):

            def add(found: dict) -> None:
                counts.update(found)
                bar.update(found["read"])

            pending: set = set()
            digest = self.scorers.submit(parts.digest, self.paths, self.stop)
            try:
                for part in inputs:
                    if (found := read_json(self._path(part, ".json"))) is not None:
                        add(found)
                        continue
                    pending.add(pool.submit(self._score_part, part))
                    if len(pending) > PARTS_AT_ONCE:
                        finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                        for each in finished:
                            add(each.result())
                for each in pending:
                    add(each.result())
                sha256 = digest.result() if self.paths else None
            except BaseException:
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        if not counts["parts"]:
            empty = self.staging / PARTS / f"part-000000{self.output.suffix}"
            with parts.writer(empty, self.schema):
                pass
        return counts, sha256

    def _path(self, part: Part, suffix: str) -> Path:
        folder = self.staging / PARTS if suffix == self.output.suffix else self.staging
        return folder / f"part-{part.index:06d}{suffix}"

    def _score_part(self, part: Part) -> dict:
        """Write one part's predictions and rejected rows, then the counts that say it is done."""
        counts = Counter(parts=1, read=0, predicted=0, rejected=0)
        target, rejected = self._path(part, self.output.suffix), self._path(part, ".rejected.csv")
        rejected.unlink(missing_ok=True)
        with ExitStack() as stack:
            out = stack.enter_context(parts.writer(target, self.schema))
            refused = None
            for predictions, violations, bad in self._scored(part):
                if violations.num_rows:
                    refused = refused or stack.enter_context(parts.writer(rejected, REJECTED))
                    refused.write_table(violations)
                out.write_batch(predictions)
                counts["read"] += predictions.num_rows + bad
                counts["predicted"] += predictions.num_rows
                counts["rejected"] += bad
        write_json(self._path(part, ".json"), counts)
        return counts

    def _scored(self, part: Part) -> Iterator[tuple[pa.RecordBatch, pa.Table, int]]:
        """The part's batches after scoring, in their order, at most ``workers`` of them ahead."""
        ahead: deque[Future] = deque()
        first = part.start
        for batch in part.batches():
            if self.stop.is_set():
                raise ProjectError(f"run {self.run_id} was stopped.")
            ahead.append(self.scorers.submit(self._score_batch, batch, part.source, first))
            first += batch.num_rows
            if len(ahead) > self.workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _score_batch(self, batch: pa.RecordBatch, source: str, first: int):
        """Predictions of the valid rows, violations of the others, and how many those are."""
        checked = CONTRACT.check(batch)
        rows, values, probability = score_valid(self.model, checked)
        columns = {
            "source": source,
            "row": rows + first,
            "prediction": values,
            "probability": probability,
            "model_version": self.model.version,
            "run_id": self.run_id,
            "predicted_at": self.started,
        }
        if CONTRACT.key:
            columns[CONTRACT.key.name] = checked.keys.take(pa.array(rows))
        arrays = [_column(columns[field.name], len(rows), field.type) for field in self.schema]
        predictions = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        violations = self._located(checked.violations, batch, source, first)
        return predictions, violations, batch.num_rows - len(rows)

    def _located(self, violations: pa.Table, batch: pa.RecordBatch, source: str, first: int):
        """Violations with the source, the key and the number of the row in the source."""
        columns = {name: violations[name] for name in violations.column_names}
        columns["source"] = _column(source, violations.num_rows, pa.string())
        if CONTRACT.key:
            keys = batch.column(CONTRACT.key.name).take(violations["row"].combine_chunks())
            columns[CONTRACT.key.name] = keys.cast(pa.string())
        columns["row"] = pc.add(violations["row"], first)
        return pa.table([columns[name] for name in REJECTED.names], schema=REJECTED)

    def _gather_rejected(self, counts: Counter) -> Path | None:
        """Publish the rejected rows; more than the configured share of them stops the run."""
        if counts["read"] != counts["predicted"] + counts["rejected"]:
            raise RuntimeError(f"rows were lost: {dict(counts)}")
        target = Path(self.config.batch.rejected) / f"{self.run_id}.csv"
        if not counts["rejected"]:
            target.unlink(missing_ok=True)
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}")
        parts.merge(sorted(self.staging.glob("*.rejected.csv")), unfinished, REJECTED)
        unfinished.replace(target)
        share, most = counts["rejected"] / counts["read"], self.config.batch.max_rejected_share
        if share > most:
            raise ProjectError(
                f"{counts['rejected']} of {counts['read']} rows break the contract, more than "
                f"batch.max_rejected_share = {most:g} allows; see {target}."
            )
        return target

    def _manifest(
        self, counts: Counter, rejected: Path | None, sha256: str | None, seconds: float
    ) -> dict:
        model = self.model
        return {
            "run_id": self.run_id,
            "input": {
                "uri": redacted(self.uri),
                "files": [str(path) for path in self.paths],
                "sha256": sha256,
            },
            "output": str(self.output),
            "model": {
                "name": model.name,
                "version": model.version,
                "sha256": model.metadata["sha256"],
            },
            "contract": CONTRACT.version,
            "rows": {name: counts[name] for name in ("read", "predicted", "rejected")},
            "rejected": str(rejected) if rejected else None,
            "parts": counts["parts"],
            "timings": {
                "started": self.started.isoformat(),
                "finished": datetime.now(UTC).isoformat(),
                "seconds": round(seconds, 3),
                "rows_per_second": round(counts["read"] / seconds),
            },
        }


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


def score_valid(model: Model, checked: Checked):
    """Indices of the valid rows, their predictions and probabilities, all of shape (valid,).

    A prediction that is no number (an estimator without imputation, given a missing value) makes
    its row a rejected one.
    """
    rows = np.flatnonzero(checked.valid)
    matrix = checked.matrix if len(rows) == len(checked.matrix) else checked.matrix[rows]
    if not len(rows):
        return rows, CONTRACT.target.decode(np.empty(0)), None
    values, probability = model.score(matrix)
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        shown = np.full(len(checked.matrix), np.nan)
        shown[rows] = values
        checked.reject(rows[~finite], "prediction", pa.array(shown), "is not finite")
        rows, values = rows[finite], values[finite]
        probability = None if probability is None else probability[finite]
    return rows, values, probability


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
