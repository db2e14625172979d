"""What monitoring found, and how pipelines ran, as gauges for Prometheus."""

from collections.abc import Iterator

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Metric, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .errors import ProjectError
from .pipelines.records import last_steps
from .tables.databases import connect, exists
from .tables.monitored import alerts, newest_metrics, open_alerts, utc

LABELS = ("source", "version", "kind", "name", "column")
SEVERITIES = ("critical", "warning")


class Gauges(Collector):
    """The newest window of each source, open alerts, and last runs, as the database has them now.

    :raises ProjectError: the database cannot be read; without tables there are no gauges.
    """

    def __init__(self, uri: str, seconds: float | None = None) -> None:
        self.metrics, self.alerts, self.steps = [], [], {}
        if not exists(uri):
            return
        with connect(uri, seconds=seconds) as connection:
            if sa.inspect(connection).has_table(alerts.name):
                self.metrics, self.alerts = newest_metrics(connection), open_alerts(connection)
                self.steps = last_steps(connection)

    def collect(self) -> Iterator[Metric]:
        value = GaugeMetricFamily("model_metric", "Measured in the newest window.", labels=LABELS)
        end = GaugeMetricFamily(
            "model_window_end_seconds", "End of the newest window.", labels=["source"]
        )
        for each in self.metrics:
            of = (each.source, each.model_version, each.kind, each.name, each.subject)
            value.add_metric(of, each.value)
        for source, time in {each.source: each.window_end for each in self.metrics}.items():
            end.add_metric([source], utc(time).timestamp())
        count = GaugeMetricFamily("model_alerts_open", "Open alerts.", labels=["severity"])
        for severity in SEVERITIES if self.metrics else ():
            count.add_metric([severity], sum(each.severity == severity for each in self.alerts))
        begun = GaugeMetricFamily(
            "pipeline_started_timestamp_seconds", "Start of the last run.", labels=["pipeline"]
        )
        failed = GaugeMetricFamily(
            "pipeline_failed", "1 if the last run failed.", labels=["pipeline"]
        )
        for pipeline, steps in self.steps.items():
            begun.add_metric([pipeline], utc(steps[0].started_at).timestamp())
            failed.add_metric([pipeline], any(step.exit_code for step in steps))
        yield from (value, end, count, begun, failed)


def publish(uri: str, textfile: str, seconds: float | None = None) -> None:
    """Write the gauges to a file, such as for Prometheus' node exporter.

    :param textfile: a path ending in .prom.
    :param seconds: how long the database may take.
    :raises ProjectError: the file cannot be written.
    """
    registry = CollectorRegistry()
    registry.register(Gauges(uri, seconds))
    try:
        write_to_textfile(textfile, registry)
    except OSError as error:
        raise ProjectError(f"{textfile}: no gauges can be written: {error}.") from None
