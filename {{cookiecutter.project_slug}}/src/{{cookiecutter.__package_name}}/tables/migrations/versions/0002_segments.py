"""Identify a kept prediction by its segment of the spool, its line there, and its row."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    # Older rows have NULL in both; the unique index allows that, as NULLs are never equal.
    op.add_column("kept_predictions", sa.Column("segment", sa.String(64)))
    op.add_column("kept_predictions", sa.Column("line", sa.Integer))
    op.create_index(
        "ix_predictions_segment", "kept_predictions", ["segment", "line", "row"], unique=True
    )
    op.drop_table("kept_segments")
