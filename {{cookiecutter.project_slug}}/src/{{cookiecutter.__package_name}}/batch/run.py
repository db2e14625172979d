"""One run, from the input to published predictions: read, validate, predict, write.

The input is split into sections. An engine validates and scores each section and writes its part to
the attempt's own folder. When all parts are written, they are published together. If an attempt
stops before that, the same run starts from the beginning, so that nobody ever sees half a run.
"""

import importlib
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..contract import CONTRACT
from ..errors import ProjectError, of_user
from ..models.predict import Model
from ..models.reference import reference_of
from ..schema.arrow import as_batch
from ..settings import Settings, portable
from ..tables.databases import identity
from ..tables.files import File, state
from ..tables.reader import column_names, read_frame
from .formats import BATCH_ROWS
from .local_engine import PARTS_AT_ONCE, cores
from .rejected import RejectedRows
from .results import Results, predictions_schema, rejected_name
from .sections import Section, Window, digest, kept, sections

# Memory of a row in flight for each of its columns: as text, as number, encoded, predicted.
BYTES_PER_CELL = 48


@dataclass
class Run:
    """What to score, with which model, and where the predictions go; ``stop`` ends it early."""

    run_id: str
    uri: str
    paths: list[File]
    window: Window | None
    output: object
    rejected: RejectedRows
    model_uri: str
    model: Model
    config: Settings
    raw: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def execute(self) -> dict:
        """Score and publish; returns the manifest.

        :raises ProjectError: nothing was published.
        """
        began = time.perf_counter()
        before = [state(path) for path in self.paths]
        results = Results(
            attempt=self.output.attempt(self.run_id),
            suffix=self.output.suffix,
            schema=predictions_schema(self.model, self.config.batch.class_probabilities),
            batch_rows=self._batch_rows(),
            run_id=self.run_id,
            model_version=self.model.version,
            reference=reference_of(self.model),
            started=datetime.now(UTC),
        )
        try:
            parts, sha256 = self._score(self._sections(results), results)
            if before != [state(path) for path in self.paths]:
                raise ProjectError(f"{self.uri} was changed while it was read: start again.")
            manifest = self._manifest(results, parts, sha256)
            self._write_rejected(manifest, results, parts)
            timings = manifest["timings"]
            timings["finished"] = datetime.now(UTC).isoformat()
            timings["seconds"] = round(time.perf_counter() - began, 3)
            self.output.publish(results.attempt, results.schema, manifest)
            self.rejected.remove(manifest["rejected"] is None)
        finally:
            self.output.discard(results.attempt)
        return manifest

    def _sections(self, results: Results) -> list[Section]:
        """The sections of the input; raw input is prepared by data.py and is one section."""
        if self.raw:
            return [kept(self._prepared(), identity(self.uri), results.attempt)]
        for where, names in column_names(self.uri, self.paths).items():
            CONTRACT.require(names, where)
        return list(sections(self.uri, self.paths, self.config.batch.part_rows, self.window))

    def _prepared(self) -> pa.RecordBatch:
        """The whole input as data.py prepares it."""
        with of_user("data.prepare()"):
            from .. import data  # imported here, because it loads pandas

            raw = read_frame(self.uri, CONTRACT)
            table = data.prepare(raw.copy())
            batch = as_batch(table)
            same = raw.index.equals(table.index)
        CONTRACT.require(batch.schema.names, "what data.prepare() returns")
        if not CONTRACT.key and not (same and self.paths):
            raise ProjectError(
                "raw rows need a key in contract.py where data.prepare() leaves some out or sorts "
                "them, or where they come from a database."
            )
        return batch.select(CONTRACT.needed)

    def _batch_rows(self) -> int:
        """How many rows a batch may have, so that all batches fit in ``batch.memory_mb``."""
        in_flight = PARTS_AT_ONCE * (cores(self.config) + 2)
        row = BYTES_PER_CELL * (len(CONTRACT.columns) + 2)
        most = (self.config.batch.memory_mb << 20) // (in_flight * row)
        return max(1, min(BATCH_ROWS, most))

    def _score(self, found: list[Section], results: Results) -> tuple[list[dict], str | None]:
        """Score, and hash local files meanwhile; returns the parts in order, and the digest."""
        engine = importlib.import_module(f".{self.config.batch.engine}_engine", __package__)
        local = bool(self.paths) and all(isinstance(path, Path) for path in self.paths)
        with ThreadPoolExecutor(1) as hashing:
            hashed = hashing.submit(digest, self.paths, self.stop) if local else None
            try:
                parts = engine.score(self, found, results)
                return sorted(parts, key=lambda part: part["part"]), hashed and hashed.result()
            finally:
                self.stop.set()

    def _write_rejected(self, manifest: dict, results: Results, parts: list[dict]) -> None:
        """Write the rejected rows; more than the configured share of them stops the run."""
        rows, most = manifest["rows"], self.config.batch.max_rejected_share
        names = [rejected_name(part["part"]) for part in parts if part["rejected"]]
        if names:
            too_many = rows["rejected"] / rows["read"] > most
            opened = (results.attempt.find(name).open("rb") for name in names)
            manifest["rejected"] = self.rejected.write(opened, too_many)
            if too_many:
                raise ProjectError(
                    f"{rows['rejected']} of {rows['read']} rows break the contract, more than "
                    f"batch.max_rejected_share = {most:g} allows; see {manifest['rejected']}."
                )

    def _manifest(self, results: Results, parts: list[dict], sha256: str | None) -> dict:
        model, counts = self.model, Counter()
        for part in parts:
            counts.update({name: part[name] for name in ("read", "predicted", "rejected")})
        reference = results.reference
        binned = np.sum([part["binned"] for part in parts], axis=0, dtype=np.int64)
        return {
            "run_id": self.run_id,
            "input": {
                "uri": portable(identity(self.uri)),
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
            "engine": self.config.batch.engine,
            "rows": {name: counts[name] for name in ("read", "predicted", "rejected")},
            # Counts in the bins that the model's metadata describes.
            "binned": reference.named(binned) if reference else None,
            "rejected": None,
            "parts": [part["part"] for part in parts],
            "timings": {"started": results.started.isoformat()},
        }
