"""What the API tells Prometheus: the four golden signals, and the model's own.

Every worker process writes to files of one folder, so that the answer of any of them is that of
all. No label takes its values from a client: routes, codes and columns are known beforehand, which
bounds how many series there can be.
"""

import asyncio
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ..schema import Contract
from ..schema.columns import Column

# Seconds; fine where a prediction is, and an edge at the objective of 0.5.
DURATIONS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 5.0, 10.0),
)
WAITS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
ROWS = (1, 2, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000)
STEPS = 20
MEMORY = Path("/dev/shm")  # noqa: S108 - of an unguessable name in it
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
EXPOSITION = "text/plain; version=1.0.0; charset=utf-8"


@contextmanager
def own_directory():
    """Where all workers of this API write to, empty; to be entered before any of them starts.

    In memory where there is such a folder: a full disk would end a process that has mapped a file.
    """
    parent = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _remove_left_ones(parent)
    folder = Path(tempfile.mkdtemp(prefix="metrics-", dir=parent))
    try:
        with FileLock(folder / "lock"):
            os.environ[DIRECTORY] = str(folder)
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left_ones(parent: Path) -> None:
    """Remove the folders of this user's APIs that were killed: nobody holds their locks."""
    for folder in parent.glob("metrics-*"):
        with suppress(OSError, Timeout):  # it is in use, or has just gone
            if folder.lstat().st_uid == os.getuid() and (folder / "lock").is_file():
                with FileLock(folder / "lock", timeout=0):
                    shutil.rmtree(folder)


def exposition() -> bytes:
    """All metrics of all workers in Prometheus' text format."""
    from prometheus_client import generate_latest

    return generate_latest(_all_workers())


def serve(host: str, port: int) -> None:
    """Answer /metrics on a port of its own, in a thread."""
    from prometheus_client import start_http_server

    start_http_server(port, host, _all_workers())


def _all_workers():
    """A registry with the metrics of all workers; of those that died only what they counted."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    class Workers(MultiProcessCollector):
        def collect(self):
            files = Path(os.environ[DIRECTORY]).glob("*.db")
            return self.merge([str(file) for file in files if _tells(file)])

    registry = CollectorRegistry()
    Workers(registry)
    return registry


def _tells(file: Path) -> bool:
    """Whether there is something in a worker's file; what tells of its life goes with it."""
    if file.name.startswith("gauge_live") and not _lives(int(file.stem.rpartition("_")[2])):
        file.unlink(missing_ok=True)
    try:
        return file.stat().st_size > 0  # that of a worker that has just started is empty
    except FileNotFoundError:
        return False


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is not ours any more, or there is no telling
    return True


class Metrics:
    """One worker's metrics. Its methods are called on the event loop and cost microseconds.

    Predicted classes are counted one by one, other values go to a histogram.

    :param limit: of requests in flight, in this worker.
    """

    def __init__(self, contract: Contract, limit: int) -> None:
        # From its import on it knows the folder of all workers.
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry, target = CollectorRegistry(), contract.target
        self._columns = {*contract.needed}

        def gauge(name: str, text: str, *labels: str, mode: Any = "livesum") -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets, *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=buckets)

        self._requests = counter(
            "http_requests_total", "Answers.", "route", "status", "model", "version"
        )
        self._errors = counter(
            "http_errors_total", "Answers of 3xx, 4xx and 5xx.", "route", "status_class", "code"
        )
        self._durations = histogram(
            "http_request_duration_seconds",
            "From the request's head to its answer.",
            DURATIONS,
            "route",
        )
        self._in_flight = gauge("http_requests_in_flight", "Requests at work, the most lately.")
        gauge("http_requests_in_flight_limit", "Beyond it requests are refused.").set(limit)
        self._queue = histogram(
            "model_queue_seconds", "From a request's arrival to the model.", WAITS
        )
        self._lag = gauge("event_loop_lag_seconds", "How late the event loop is.", mode="livemax")
        self._cpu = gauge("api_cpu_seconds", "CPU time of the workers.", mode="sum")
        self._memory = gauge("api_memory_bytes", "Resident memory of the workers.")
        self._rows = histogram("request_rows", "Rows of a request.", ROWS)
        self._violations = counter(
            "contract_violations_total", "Values that broke the contract.", "column"
        )
        self._info = gauge(
            "model_info",
            "1 for the model that serves, 0 for those before.",
            "name",
            "version",
            "alias",
            "sha256",
            mode="livemax",
        )
        self._trained = gauge(
            "model_trained_timestamp_seconds", "When it was trained.", mode="livemax"
        )
        self._age = gauge("model_age_seconds", "Since it was trained.", mode="livemax")
        self._reloads = counter("model_reloads_total", "Models that were loaded.", "outcome")
        self._not_kept = counter("predictions_not_kept_total", "Requests answered but not kept.")
        self._fill = gauge("predictions_spool_bytes", "Waiting for the database.", mode="livemax")
        self._fill_limit = gauge("predictions_spool_limit_bytes", "Most that may.", mode="livemax")
        self._classes = self._values = None
        if target.classes:
            self._classes = counter("predictions_total", "Predictions by class.", "prediction")
        else:
            self._values = histogram("prediction_value", "Predictions.", value_buckets(target))
        # What happened since the last ``flush``, because adding it up together costs far less.
        self._answers: defaultdict[tuple, list[float]] = defaultdict(list)
        self._queued: list[float] = []
        self._sizes: list[int] = []
        self._predicted: list[np.ndarray] = []
        self.in_flight = self._peak = 0
        self._source = None
        self._gauge = partial(gauge, mode="livemax")
        self._trained_at: float | None = None
        self._serving: tuple[str, ...] = ()

    def answered(self, route: str, status: int, code: str, served, seconds: float) -> None:
        """One answer; ``code`` is the problem's, empty for none."""
        name, version = (served.name, served.version) if served else ("", "")
        self._answers[route, status, code, name, version].append(seconds)

    def entered(self) -> None:
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def left(self) -> None:
        self.in_flight -= 1

    def queue_wait(self, seconds: float) -> None:
        self._queued.append(seconds)

    def predicted(self, values: np.ndarray) -> None:
        """The values that a request is answered with."""
        self._predicted.append(values)

    def rows(self, count: int) -> None:
        self._sizes.append(count)

    def violated(self, columns: dict[str | None, int]) -> None:
        """How many values of which column broke the contract."""
        for column, count in columns.items():
            self._violations.labels(column if column in self._columns else "other").inc(count)

    def serves(self, served) -> None:
        """Another model serves from now on."""
        if self._serving:
            self._info.labels(*self._serving).set(0)
        known = served.model.metadata
        labels = (served.name, served.version, known.get("alias") or "", known["sha256"])
        self._info.labels(*labels).set(1)
        self._serving = labels
        self._trained_at = served.trained
        if self._trained_at:
            self._trained.set(self._trained_at)

    def reloaded(self, passed: bool) -> None:
        self._reloads.labels("loaded" if passed else "failed").inc()

    def source(self, up: bool, checked: float) -> None:
        """How the last look at the registry went; without one these gauges are not there."""
        if self._source is None:
            self._source = self._gauge("model_source_up", "Whether the registry answers.")
            self._looked = self._gauge(
                "model_source_checked_timestamp_seconds", "When it was last asked."
            )
        self._source.set(up)
        self._looked.set(checked)

    def not_kept(self, requests: int) -> None:
        self._not_kept.inc(requests)

    def spool(self, fill: int, limit: int) -> None:
        self._fill.set(fill)
        self._fill_limit.set(limit)

    def flush(self) -> None:
        """Bring what happened to Prometheus' own counters."""
        answers, self._answers = self._answers, defaultdict(list)
        for (route, status, code, name, version), seconds in answers.items():
            self._requests.labels(route, status, name, version).inc(len(seconds))
            observe_many(self._durations.labels(route), seconds)
            if status >= 300:
                self._errors.labels(route, f"{status // 100}xx", code).inc(len(seconds))
        waits, self._queued = self._queued, []
        observe_many(self._queue, waits)
        sizes, self._sizes = self._sizes, []
        observe_many(self._rows, sizes)
        predicted, self._predicted = self._predicted, []
        if predicted:
            self._flush_predicted(np.concatenate(predicted))

    def _flush_predicted(self, values: np.ndarray) -> None:
        if self._classes is None:
            observe_many(self._values, values)
            return
        for value, count in zip(*np.unique(values, return_counts=True), strict=True):
            self._classes.labels(str(value)).inc(int(count))

    async def tick(self, seconds: float) -> None:
        """Sleep, and take stock of the process."""
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        self.flush()
        self._lag.set(max(0.0, time.perf_counter() - began - seconds))
        self._in_flight.set(self._peak)
        self._peak = self.in_flight
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._cpu.set(used.ru_utime + used.ru_stime)
        self._memory.set(resident_bytes())
        if self._trained_at:
            self._age.set(time.time() - self._trained_at)


def delivery_events() -> Callable[[str, int], None]:
    """Counts what a delivery of kept predictions reports; it is a process of its own."""
    if DIRECTORY not in os.environ:
        return lambda event, count: None  # nobody asks
    from prometheus_client import CollectorRegistry, Counter

    registry = CollectorRegistry()
    counters = {
        "delivered": ("predictions_kept", "Rows kept in the database."),
        "failed": ("predictions_delivery_failures", "Tries that failed."),
        "damaged": ("predictions_damaged", "Spooled lines that were torn."),
        "refused": ("predictions_refused", "Segments the database refused."),
    }
    events = {event: Counter(*named, registry=registry) for event, named in counters.items()}
    return lambda event, count: events[event].inc(count)


def value_buckets(target: Column) -> tuple[float, ...]:
    """Upper edges: equal steps over the contract's range, or 1, 2, 5 in every decade."""
    low, high = target.drawn_from
    if low is not None and high is not None:
        return tuple(np.linspace(low, high, STEPS + 1)[1:].tolist())
    tens = [step * 10.0**power for power in range(-2, 7) for step in (1, 2, 5)]
    return (*(-ten for ten in reversed(tens)), 0.0, *tens)


def observe_many(histogram, observed) -> None:
    """Histogram.observe for many values at once, which the library lacks."""
    values = np.asarray(observed, np.float64)
    edges = np.array(histogram._upper_bounds)
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges))
    for index in np.flatnonzero(counts):
        histogram._buckets[index].inc(int(counts[index]))
    histogram._sum.inc(float(values.sum()))


def resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # not on Linux: the most it ever was
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
