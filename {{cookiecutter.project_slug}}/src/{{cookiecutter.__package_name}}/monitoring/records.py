"""What monitoring keeps in the project's database: labels, and what it found."""

from collections.abc import Container
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa

from ..contract import CONTRACT
from ..tables.databases import connect
from ..tables.migrate import ensure
from ..tables.monitored import TIME, alerts, metrics, of_windows, open_alerts, utc

labels = sa.Table(
    "prediction_labels",
    sa.MetaData(),
    # See predictions.ids().
    sa.Column("id", sa.Text, primary_key=True),
    # As text, which the contract reads, so that a target may change its type.
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("imported_at", TIME, nullable=False, index=True),
)


@dataclass(frozen=True)
class Period:
    """The predictions to look at: from ``start`` to before ``end``, or those of one batch run."""

    start: datetime
    end: datetime
    run: str = ""

    def __str__(self) -> str:
        if self.run:
            return f"run {self.run}"
        return f"{self.start:%F %H:%M} to {self.end:%F %H:%M} UTC"


@dataclass(frozen=True)
class Metric:
    """A measured value, with its 95 % confidence interval if it has one."""

    kind: Literal["performance", "business", "quality", "drift"]
    name: str
    subject: str
    value: float
    rows: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A check of a metric against a threshold; ``severity`` is empty if nothing is wrong."""

    kind: str
    name: str
    subject: str
    value: float
    threshold: float
    severity: Literal["", "warning", "critical"] = ""
    evidence: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.kind, self.name, self.subject


@contextmanager
def database(uri: str):
    """A transaction on the project's database, whose tables are there."""
    with connect(uri, create=True) as connection:
        ensure(connection, uri, CONTRACT.target)
        yield connection


def save_metrics(
    connection: sa.Connection, source: str, period: Period, found: list[tuple[str, Metric]]
) -> None:
    """Save metrics with their model version; those of the same window before are replaced."""
    window = {
        "source": source,
        "window_start": period.start,
        "window_end": period.end,
        "run_id": period.run or None,
    }
    same = (metrics.c[name].is_not_distinct_from(value) for name, value in window.items())
    connection.execute(sa.delete(metrics).where(*same))
    rows = [window | {"model_version": version} | asdict(each) for version, each in found]
    connection.execute(sa.insert(metrics), rows)


def is_newest(connection: sa.Connection, source: str, period: Period) -> bool:
    """Whether no later window of the source was looked at; only the newest one alerts."""
    last = sa.select(sa.func.max(metrics.c.window_end)).where(*of_windows(source))
    found = connection.scalar(last)
    return found is None or utc(found) <= period.end


def save_alerts(
    connection: sa.Connection,
    source: str,
    found: dict[str, list[Verdict]],
    unknown: Container[tuple[str, str]],
) -> None:
    """Open an alert for each finding, or update it, and close those that were not found again.

    An alert is opened again if it becomes critical, so that it is noticed.

    :param found: the verdicts on each version, and under "" those on all versions.
    :param unknown: version and kind of what could not be judged; such alerts stay.
    """
    now, opened = datetime.now(UTC), {}
    for alert in open_alerts(connection):
        if alert.source == source:
            key = alert.kind, alert.name, alert.subject, alert.severity
            opened[alert.model_version, *key] = alert.id
    for version, verdicts in found.items():
        for verdict in [each for each in verdicts if each.severity]:
            row = {**asdict(verdict), "model_version": version, "source": source, "seen_at": now}
            row["runbook"] = f"docs/runbook.md#{verdict.kind}"
            known = opened.pop((version, *verdict.key, verdict.severity), None)
            if known:
                connection.execute(sa.update(alerts).where(alerts.c.id == known).values(**row))
            else:
                connection.execute(sa.insert(alerts).values(**row, opened_at=now))
    over = [
        known for (version, kind, *_), known in opened.items() if (version, kind) not in unknown
    ]
    close = sa.update(alerts).where(alerts.c.id.in_(over))
    connection.execute(close.values(closed_at=now))
