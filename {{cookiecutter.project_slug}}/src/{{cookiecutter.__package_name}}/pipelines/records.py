"""The record of the steps of runs, in the project's database."""

from datetime import datetime

import sqlalchemy as sa

from ..contract import CONTRACT
from ..tables.databases import LOCK_SECONDS, connect
from ..tables.migrate import ensure

steps = sa.Table(
    "pipeline_steps",
    sa.MetaData(),
    sa.Column("run_id", sa.String(100), primary_key=True),
    sa.Column("step", sa.String(100), primary_key=True),
    sa.Column("pipeline", sa.String(100), nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    # NULL until it has finished, and if the whole run was killed.
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("tries", sa.Integer),
    sa.Column("exit_code", sa.Integer),
)


def last_steps(connection: sa.Connection) -> dict[str, list[sa.Row]]:
    """The steps of the last run of each pipeline, by the pipeline's name."""
    newest = sa.select(steps.c.pipeline, sa.func.max(steps.c.started_at).label("at"))
    newest = newest.group_by(steps.c.pipeline).subquery()
    last = (steps.c.pipeline == newest.c.pipeline) & (steps.c.started_at == newest.c.at)
    runs = sa.select(steps.c.run_id).join(newest, last)
    query = sa.select(steps).where(steps.c.run_id.in_(runs)).order_by(steps.c.started_at)
    found: dict[str, list[sa.Row]] = {}
    for row in connection.execute(query):
        found.setdefault(row.pipeline, []).append(row)
    return found


def last_success(connection: sa.Connection, step: str) -> datetime | None:
    """When a step last finished well."""
    query = sa.select(sa.func.max(steps.c.finished_at))
    return connection.scalar(query.where(steps.c.step == step, steps.c.exit_code == 0))


def write(uri: str, row: dict) -> None:
    """Write the row of a step; it replaces an earlier row of the same step and run."""
    same = (steps.c.run_id == row["run_id"]) & (steps.c.step == row["step"])
    with connect(uri, create=True, seconds=LOCK_SECONDS) as connection:
        ensure(connection, uri, CONTRACT.target)
        connection.execute(sa.delete(steps).where(same))
        connection.execute(sa.insert(steps).values(row))
