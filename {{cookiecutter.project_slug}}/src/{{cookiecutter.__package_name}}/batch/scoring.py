"""One run's way from the input to published predictions: read, validate, predict, write.

The input is cut into parts. Each part is validated, scored and written on its own to a staging
folder, by the engine that the settings name. Whatever happens in between, a run that is started
again, with either engine, goes on with the parts that are missing; when all are there, they are
published.
"""

import importlib
import shutil
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ..contract import CONTRACT
from ..errors import ProjectError
from ..models.predict import Model
from ..settings import Settings
from ..tables.databases import identity
from ..tables.json_files import read_json, write_json
from ..tables.reader import column_names
from . import parts
from .outputs import PARTS
from .parts import Window, part_name
from .results import REJECTED, Results, predictions_schema

PLAN, UNFINISHED = "plan.json", "unfinished"
# Parts in memory at a time, at most: those at work, one that is read, one that waits.
PARTS_IN_MEMORY = 4
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
        model_uri: str,
        model: Model,
        config: Settings,
        paths: list[Path],
        window: Window | None = None,
    ) -> None:
        self.run_id, self.uri, self.output = run_id, uri, output
        self.model_uri, self.model = model_uri, model
        self.config, self.paths, self.window = config, paths, window
        self.staging = output.staging / run_id
        self.stop = threading.Event()

    def execute(self) -> dict:
        """Score what is missing, and publish; returns the manifest."""
        began = time.perf_counter()
        plan = self._begin()
        self.results = self._results(datetime.fromisoformat(plan["started"]))
        counts, sha256 = self._score(plan["rows_per_part"])
        rejected = self._gather_rejected(counts)
        manifest = self._manifest(counts, rejected, sha256, time.perf_counter() - began)
        scored = sorted((self.staging / PARTS).glob(f"part-*{self.output.suffix}"))
        if len(scored) != max(1, counts["parts"]):
            raise RuntimeError(f"{len(scored)} of {counts['parts']} parts are there")
        self.output.publish(self.run_id, scored, self.results.schema, manifest)
        shutil.rmtree(self.staging, ignore_errors=True)
        with suppress(OSError):
            self.output.staging.rmdir()
        return manifest

    def _begin(self) -> dict:
        """The plan to follow: that of an interrupted run over the same files and model, or new."""
        for where, names in column_names(self.uri, self.paths).items():
            CONTRACT.require(names, where)
        stats = [(path, path.stat()) for path in self.paths]
        plan = {
            "input": identity(self.uri),
            "output": str(self.output),
            "model": [self.model.metadata["sha256"], self.model.version],
            "contract": CONTRACT.describe(),
            "suffix": self.output.suffix,
            "found": [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats],
        }
        before = read_json(self.staging / PLAN) or {}
        # A query may give other rows now, so only files are taken up again where they were left.
        if self.paths and plan == {key: before.get(key) for key in plan}:
            (self.staging / PARTS).mkdir(exist_ok=True)
            return before
        shutil.rmtree(self.staging, ignore_errors=True)
        (self.staging / PARTS).mkdir(parents=True)
        in_flight = PARTS_IN_MEMORY * BYTES_PER_CELL * (len(CONTRACT.columns) + 2)
        rows = max(1, (self.config.batch.memory_mb << 20) // in_flight)
        plan["rows_per_part"] = min(rows, self.config.batch.part_rows)
        plan["started"] = datetime.now(UTC).isoformat()
        write_json(self.staging / PLAN, plan)
        return plan

    def _results(self, started: datetime) -> Results:
        """Where this attempt writes; what earlier ones left unfinished is removed."""
        for left in self.staging.glob(f"{UNFINISHED}-*"):
            shutil.rmtree(left, ignore_errors=True)
        unfinished = self.staging / f"{UNFINISHED}-{uuid.uuid4().hex}"
        unfinished.mkdir()
        return Results(
            self.staging,
            unfinished,
            self.output.suffix,
            predictions_schema(self.model),
            self.run_id,
            self.model.version,
            started,
        )

    def _score(self, rows_per_part: int) -> tuple[Counter, str | None]:
        """Let the engine score the missing parts; hash the input meanwhile."""
        engine = importlib.import_module(f".{self.config.batch.engine}_engine", __package__)
        with ThreadPoolExecutor(1) as hashing:
            digest = hashing.submit(parts.digest, self.paths, self.stop)
            try:
                counts = engine.score(self, rows_per_part)
                if not counts["parts"]:
                    with self.results.part(part_name(0, 0)):
                        pass
                return counts, digest.result() if self.paths else None
            finally:
                self.stop.set()
                shutil.rmtree(self.results.unfinished, ignore_errors=True)

    def _gather_rejected(self, counts: Counter) -> Path | None:
        """Publish the rejected rows; more than the configured share of them stops the run."""
        if counts["read"] != counts["predicted"] + counts["rejected"]:
            raise RuntimeError(f"rows were lost: {dict(counts)}")
        target = rejected_file(self.config, self.run_id)
        if not counts["rejected"]:
            target.unlink(missing_ok=True)
            owner(target).unlink(missing_ok=True)
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(owner(target), {"output": str(self.output)})
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
                "uri": identity(self.uri),
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
            "rejected": str(rejected) if rejected else None,
            "parts": counts["parts"],
            "timings": {
                "started": self.results.started.isoformat(),
                "finished": datetime.now(UTC).isoformat(),
                "seconds": round(seconds, 3),
                "rows_per_second": round(counts["read"] / seconds),
            },
        }


def rejected_file(config: Settings, run_id: str) -> Path:
    """Where the rejected rows of a run are published."""
    return Path(config.batch.rejected) / f"{run_id}.csv"


def owner(rejected: Path) -> Path:
    """The file that says to which output the run of a file of rejected rows writes."""
    return rejected.with_name(f".{rejected.stem}.json")
