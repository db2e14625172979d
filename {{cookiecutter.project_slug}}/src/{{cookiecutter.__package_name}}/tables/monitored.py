"""The tables of what monitoring found: metrics of a window of predictions, and alerts."""

from datetime import UTC, datetime

import sqlalchemy as sa

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows only so
TIME = sa.DateTime(timezone=True)
META = sa.MetaData()


def _subject() -> list[sa.Column]:
    """What a metric or an alert is about, and its value.

    ``source`` is "batch" or "api"; ``kind`` is "performance", "business", "quality" or "drift";
    ``subject`` is a column of the contract, "prediction", or empty.
    """
    return [
        sa.Column("source", sa.String(10), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
    ]


metrics = sa.Table(
    "model_metrics",
    META,
    sa.Column("id", ID, primary_key=True),
    *_subject(),
    sa.Column("window_start", TIME, nullable=False),
    sa.Column("window_end", TIME, nullable=False),
    # The batch run, if the window is one run.
    sa.Column("run_id", sa.String(200)),
    # The 95 % confidence interval, where there is one.
    sa.Column("low", sa.Double),
    sa.Column("high", sa.Double),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Index("ix_metrics_window", "source", "window_end"),
)
alerts = sa.Table(
    "model_alerts",
    META,
    sa.Column("id", ID, primary_key=True),
    *_subject(),
    sa.Column("severity", sa.String(10), nullable=False),
    sa.Column("threshold", sa.Double),
    # A sentence for people, and where the runbook says what to do.
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("runbook", sa.String(100), nullable=False),
    sa.Column("opened_at", TIME, nullable=False),
    sa.Column("seen_at", TIME, nullable=False),
    sa.Column("closed_at", TIME, index=True),
)


def utc(found: datetime) -> datetime:
    """A time from the database: SQLite has no time zones, and all times are in UTC."""
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def open_alerts(connection: sa.Connection) -> list[sa.Row]:
    """The alerts that are open, the critical ones first, then the oldest."""
    query = sa.select(alerts).where(alerts.c.closed_at.is_(None))
    return list(connection.execute(query.order_by(alerts.c.severity, alerts.c.opened_at)))


def of_windows(source: str) -> tuple:
    """Conditions for the metrics of a source's windows, without those of single runs."""
    return metrics.c.source == source, metrics.c.run_id.is_(None)


def newest_metrics(connection: sa.Connection) -> list[sa.Row]:
    """The metrics of each source's window that ends last; of several, the one looked at last."""
    found, times = [], (metrics.c.window_start, metrics.c.window_end)
    for source in connection.scalars(sa.select(metrics.c.source).distinct()).all():
        ordered = sa.select(*times).where(*of_windows(source))
        ordered = ordered.order_by(metrics.c.window_end.desc(), metrics.c.id.desc())
        if last := connection.execute(ordered.limit(1)).first():
            same = (time == value for time, value in zip(times, last, strict=True))
            query = sa.select(metrics).where(*of_windows(source), *same)
            found += connection.execute(query.order_by(metrics.c.id)).all()
    return found
