"""What monitoring found, and how pipelines ran, as gauges for Prometheus."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Metric, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..errors import ProjectError
from ..settings import PACKAGE
from ..tables.databases import connect, exists
from ..tables.monitored import alerts, newest_metrics, open_alerts, utc
from .records import last_steps, last_success

LABELS = ("source", "version", "kind", "name", "column")
SEVERITIES = ("critical", "warning")
# A step without an end was killed if it began before that.
LONGEST = timedelta(hours=12)


class Gauges(Collector):
    """The newest window of each source, open alerts, and last runs, as the database has them now.

    Each gauge has the label ``project``: several projects may share a node exporter.

    :raises ProjectError: the database cannot be read; without tables there are no gauges.
    """

    def __init__(self, uri: str, seconds: float | None = None) -> None:
        self.metrics, self.alerts, self.steps, self.scored = [], [], {}, None
        if not exists(uri):
            return
        with connect(uri, seconds=seconds) as connection:
            if sa.inspect(connection).has_table(alerts.name):
                self.metrics, self.alerts = newest_metrics(connection), open_alerts(connection)
                self.steps = last_steps(connection)
                self.scored = last_success(connection, "score")

    def collect(self) -> Iterator[Metric]:
        yield from self._windows()
        yield from self._runs()

    def _windows(self) -> Iterator[Metric]:
        value, end, newest, count = (
            gauge("model_metric", "Measured in the newest window.", *LABELS),
            gauge("model_window_end_seconds", "End of the newest window.", "source"),
            gauge("model_newest_prediction_seconds", "When it was made.", "source"),
            gauge("model_alerts_open", "Open alerts.", "severity"),
        )
        predicted = {"batch": utc(self.scored).timestamp()} if self.scored else {}
        for each in self.metrics:
            of = (each.source, each.model_version, each.kind, each.name, each.subject)
            add(value, each.value, *of)
            if each.name == "age_hours":
                made = utc(each.window_end).timestamp() - 3600 * each.value
                predicted[each.source] = max(made, predicted.get(each.source, made))
        for source, time in {each.source: each.window_end for each in self.metrics}.items():
            add(end, utc(time).timestamp(), source)
        for source, time in predicted.items():
            add(newest, time, source)
        for severity in SEVERITIES if self.metrics else ():
            add(count, sum(each.severity == severity for each in self.alerts), severity)
        yield from (value, end, newest, count)

    def _runs(self) -> Iterator[Metric]:
        begun = gauge("pipeline_started_seconds", "Start of the last run.", "pipeline")
        failed = gauge("pipeline_failed", "1 if the last run failed.", "pipeline")
        for pipeline, steps in self.steps.items():
            late = datetime.now(UTC) - LONGEST
            wrong = (
                step.exit_code or (step.exit_code is None and utc(step.started_at) < late)
                for step in steps
            )
            add(begun, utc(steps[0].started_at).timestamp(), pipeline)
            add(failed, any(wrong), pipeline)
        yield from (begun, failed)


def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["project", *labels])


def add(family: GaugeMetricFamily, value: float, *labels: str) -> None:
    family.add_metric([PACKAGE, *labels], value)


def publish(uri: str, textfile: str, seconds: float | None = None) -> None:
    """Write the gauges to a file, such as for Prometheus' node exporter.

    :param textfile: a path ending in .prom.
    :param seconds: how long the database may take.
    :raises ProjectError: the file cannot be written.
    """
    registry = CollectorRegistry()
    registry.register(Gauges(uri, seconds))
    try:
        Path(textfile).parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(textfile, registry)
    except OSError as error:
        raise ProjectError(f"{textfile}: no gauges can be written: {error}.") from None
