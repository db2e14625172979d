"""The manifests of runs that were published to tables of the same schema."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "score_runs",
        sa.Column("run_id", sa.String(200), primary_key=True),
        sa.Column("table_name", sa.String(200), primary_key=True),
        sa.Column("manifest", sa.Text),
        schema=op.get_context().version_table_schema,
    )
