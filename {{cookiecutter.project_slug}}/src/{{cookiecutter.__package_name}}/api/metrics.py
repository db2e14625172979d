"""Metrics for Prometheus: the golden signals, and metrics of the model.

All processes of an API write to files in one folder, so that any worker can report the metrics of
all. No label takes its values from a client: routes, codes and columns are known beforehand, which
limits the number of series.

prometheus-client looks for that folder when it is imported, so serve.py sets it before.
"""

import os
import struct
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ..schema import Contract
from ..schema.columns import Column
from .processes import METRICS, MONITORED, lives

# Seconds; fine steps where predictions are, and an edge at the objective of 0.5.
DURATIONS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 5.0, 10.0),
)
STEPS = 20
EXPOSITION = "text/plain; version=1.0.0; charset=utf-8"


def exposition() -> bytes:
    """The metrics of all processes in Prometheus' text format, with counts of dead ones.

    The gauges of monitoring come last.
    """
    for file in Path(os.environ[METRICS]).glob("gauge_live*_*.db"):
        with suppress(OSError):
            if not lives(process := int(file.stem.rpartition("_")[2])):
                mark_process_dead(process)
    registry, monitored = CollectorRegistry(), Path(os.environ[METRICS]) / MONITORED
    MultiProcessCollector(registry)
    found = monitored.read_bytes() if monitored.exists() else b""
    for _ in range(10):
        with suppress(struct.error):  # the file of a worker that just started is empty
            return generate_latest(registry) + found
        time.sleep(0.01)
    return generate_latest(registry) + found


class Metrics:
    """One worker's metrics. Its methods are called on the event loop and cost microseconds.

    Predictions are counted by class, or by range if the target has no classes.

    :param limit: the largest number of requests in flight in this worker.
    :param predicting: routes that predict.
    """

    def __init__(self, contract: Contract, limit: int, predicting: Sequence[str]) -> None:
        self._columns = {*contract.needed}
        self._requests = counter(
            "http_requests_total", "Answers.", "route", "status", "model", "version"
        )
        self._errors = counter(
            "http_errors_total", "Answers of 3xx, 4xx and 5xx.", "route", "status_class", "code"
        )
        told = "From the request's head to its answer."
        self._durations = histogram(
            "http_request_duration_seconds", told, DURATIONS, "route", "status"
        )
        for route, status in product(predicting, (200, 500, 503)):
            self._duration_of(route, status)  # a rate misses the first value of a series
        self._in_flight = gauge("http_requests_in_flight", "Requests at work, the most lately.")
        gauge("http_requests_in_flight_limit", "Beyond it requests are refused.").set(limit)
        told = "Values that broke the contract."
        self._violations = counter("contract_violations_total", told, "column")
        told, names = "1 for the model that serves.", ("name", "version", "alias", "sha256")
        self._info = gauge("model_info", told, *names, mode="livemax")
        told = "When it was trained."
        self._trained = gauge("model_trained_timestamp_seconds", told, mode="livemax")
        self._reloads = of_reloads()
        self._not_kept = counter("predictions_not_kept_total", "Requests answered but not kept.")
        self._fill = gauge(
            "predictions_spool_bytes", "Waiting for the database.", mode="mostrecent"
        )
        told = "Predictions by class, or by range."
        self._predictions = counter("predictions_total", told, "prediction")
        self._edges = [] if contract.target.classes else value_edges(contract.target)
        self._told = [told_edge(contract.target, edge) for edge in self._edges]
        self.in_flight = self._peak = 0
        self._serving: tuple[str, ...] = ()
        # Counts since the last ``flush``: Prometheus' counters, shared by all processes, cost more.
        self._answers: Counts[tuple] = Counts()
        self._predicted: list[np.ndarray] = []

    def answered(self, route: str, status: int, code: str, served, seconds: float) -> None:
        """Count an answer; ``code`` is that of its problem, empty if there is none."""
        model = (served.name, served.version) if served else ("", "")
        self._answers[route, status, code, *model] += 1
        self._duration_of(route, status).observe(seconds)

    @lru_cache(1_000)  # noqa: B019 - there is one of these in a process
    def _duration_of(self, route: str, status: int) -> Histogram:
        return self._durations.labels(route, status)

    def flush(self) -> None:
        """Add the counts since the last call to Prometheus' counters."""
        answers, self._answers = self._answers, Counts()
        for (route, status, code, *model), count in answers.items():
            self._requests.labels(route, status, *model).inc(count)
            if status >= 300:
                self._errors.labels(route, f"{status // 100}xx", code).inc(count)
        predicted, self._predicted = self._predicted, []
        for value, count in self._counted(np.concatenate(predicted or [np.empty(0)])):
            self._predictions.labels(value).inc(count)

    def _counted(self, values: np.ndarray) -> Iterator[tuple[str, int]]:
        """Each class or range, and the number of values in it."""
        if self._edges:
            for at, count in Counts(np.searchsorted(self._edges, values).tolist()).items():
                yield range_of(self._told, at), count
        else:
            for value, count in Counts(values.tolist()).items():
                yield str(value), count

    def entered(self) -> None:
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def left(self) -> None:
        self.in_flight -= 1

    def tick(self) -> None:
        """Call this every second."""
        self.flush()
        self._in_flight.set(self._peak)
        self._peak = self.in_flight

    def predicted(self, values: np.ndarray) -> None:
        """Count the predictions of a request: classes, or the numeric form of other values."""
        self._predicted.append(values)

    def violated(self, columns: dict[str | None, int]) -> None:
        """Count the values that broke the contract, by column."""
        for column, count in columns.items():
            self._violations.labels(column if column in self._columns else "other").inc(count)

    def serves(self, served) -> None:
        """Report the model that serves from now on."""
        if self._serving:
            self._info.labels(*self._serving).set(0)
        known = served.model.metadata
        self._serving = (served.name, served.version, known.get("alias") or "", known["sha256"])
        self._info.labels(*self._serving).set(1)
        self._trained.set(served.trained or 0)

    def reloaded(self, passed: bool) -> None:
        self._reloads.labels("loaded" if passed else "failed").inc()

    def not_kept(self) -> None:
        self._not_kept.inc()

    def spool(self, fill: int) -> None:
        self._fill.set(fill)


def of_start() -> None:
    """Report when the API was started, which no worker knows that replaces another one."""
    told = "When the API was started."
    gauge("process_start_time_seconds", told, mode="mostrecent").set_to_current_time()


def of_source() -> Callable[[bool, bool], None]:
    """A function that reports whether the registry answers and whether its model is unusable."""
    up = gauge("model_source_up", "Whether the registry answers.", mode="mostrecent")
    told = "When it was last asked."
    asked = gauge("model_source_checked_timestamp_seconds", told, mode="mostrecent")
    reloads = of_reloads()

    def looked(answers: bool, unfit: bool) -> None:
        up.set(answers)
        asked.set(time.time())
        if unfit:
            reloads.labels("failed").inc()

    return looked


def of_delivery(spool_bytes: int) -> Callable[[str, int], None]:
    """A function that counts the events of ``kept.Delivery``; sets the limit of the spool."""
    told = "Most that may wait."
    gauge("predictions_spool_limit_bytes", told, mode="mostrecent").set(spool_bytes)
    counters = {
        "delivered": counter("predictions_kept_total", "Rows kept in the database."),
        "failed": counter("predictions_delivery_failures_total", "Tries that failed."),
        "damaged": counter("predictions_damaged_total", "Spooled lines that were torn."),
        "refused": counter("predictions_refused_total", "Segments the database refused."),
    }
    return lambda event, count: counters[event].inc(count)


def of_reloads() -> Counter:
    found = counter("model_reloads_total", "Models that were loaded.", "outcome")
    found.labels("failed")  # a rate of Prometheus misses the first value of a series
    return found


def counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=None)


def gauge(name: str, text: str, *labels: str, mode: str = "livesum") -> Gauge:
    return Gauge(name, text, labels, registry=None, multiprocess_mode=mode)


def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
    return Histogram(name, text, labels, registry=None, buckets=buckets)


def value_edges(target: Column) -> list[float]:
    """The ends of the ranges of predictions: equal steps over the contract's range, or decades."""
    low, high = target.drawn_from
    if low is not None and high is not None:
        return np.linspace(low, high, STEPS + 1).tolist()
    tens = [10.0**power for power in range(-2, 7)]
    return [*(-ten for ten in reversed(tens)), 0.0, *tens]


def told_edge(target: Column, edge: float) -> str:
    return str(target.decode(np.array(edge))) if target.type == "date" else f"{edge:g}"


def range_of(edges: list[str], at: int) -> str:
    """The name of the range that ends at the edge number ``at``, which is included."""
    if at == len(edges):
        return f"above {edges[-1]}"
    return f"{edges[at - 1]} to {edges[at]}" if at else f"up to {edges[0]}"
