"""The tables of monitoring, and the id by which a label finds a prediction of the API."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    integer = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    time = sa.DateTime(timezone=True)
    op.create_table(
        "prediction_labels",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("imported_at", time, nullable=False, index=True),
    )
    op.create_table(
        "model_metrics",
        sa.Column("id", integer, primary_key=True),
        *_subject(),
        sa.Column("window_start", time, nullable=False),
        sa.Column("window_end", time, nullable=False),
        sa.Column("run_id", sa.String(200)),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Index("ix_metrics_window", "source", "window_end"),
    )
    op.create_table(
        "model_alerts",
        sa.Column("id", integer, primary_key=True),
        *_subject(),
        sa.Column("severity", sa.String(10), nullable=False),
        sa.Column("threshold", sa.Double),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("runbook", sa.String(100), nullable=False),
        sa.Column("opened_at", time, nullable=False),
        sa.Column("seen_at", time, nullable=False),
        sa.Column("closed_at", time, index=True),
    )
    op.create_table(
        "model_decisions",
        sa.Column("id", integer, primary_key=True),
        sa.Column("decided_at", time, nullable=False, index=True),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("decision", sa.String(30), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.add_column("kept_predictions", sa.Column("row_id", sa.Text))
    op.create_index("ix_predictions_row_id", "kept_predictions", ["row_id"])
    op.execute("""UPDATE kept_predictions SET row_id = request_id || '/' || CAST("row" AS TEXT)""")


def _subject() -> list[sa.Column]:
    """What a metric or an alert is about, and its value."""
    return [
        sa.Column("source", sa.String(10), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
    ]
