"""What incremental scoring has claimed."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "score_claims",
        sa.Column("source", sa.String(1000), primary_key=True),
        sa.Column("item", sa.String(1000), primary_key=True),
        sa.Column("until", sa.String(1000)),
        sa.Column("run_id", sa.String(200), nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
    )
