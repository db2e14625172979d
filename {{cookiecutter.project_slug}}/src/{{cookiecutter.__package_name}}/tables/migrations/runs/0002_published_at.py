"""When a run was published, so that nobody has to look for it in the manifest."""

import json
from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"
NAME, TYPE = "published_at", sa.DateTime(timezone=True)


def upgrade() -> None:
    schema, connection = op.get_context().version_table_schema, op.get_bind()
    op.add_column("score_runs", sa.Column(NAME, TYPE), schema=schema)
    names = [sa.column(name) for name in ("run_id", "table_name", "manifest")]
    runs = sa.table("score_runs", *names, sa.column(NAME, TYPE), schema=schema)
    # One by one: a manifest names every file of its run, so all of them may be much.
    for run_id, table_name in connection.execute(sa.select(*names[:2]).select_from(runs)).all():
        this = (runs.c.run_id == run_id) & (runs.c.table_name == table_name)
        manifest = json.loads(connection.scalar(sa.select(runs.c.manifest).where(this)))
        if finished := manifest.get("timings", {}).get("finished"):
            at = datetime.fromisoformat(finished)
            connection.execute(sa.update(runs).where(this).values(published_at=at))
