"""The record of what was decided about the model: who, what, when and why."""

import getpass
import os
import socket
import sys
from datetime import UTC, datetime

import sqlalchemy as sa

from ..contract import CONTRACT
from ..errors import ProjectError
from ..tables.databases import connect, exists
from ..tables.migrate import ensure
from ..tables.monitored import ID, TIME, utc

# The environment variable that names who decides; otherwise it is the user.
ACTOR = "ACTOR"
RETRAINING, NOT_RETRAINING, ROLLED_BACK = "retraining", "not retraining", "rolled back"
table = sa.Table(
    "model_decisions",
    sa.MetaData(),
    sa.Column("id", ID, primary_key=True),
    sa.Column("decided_at", TIME, nullable=False, index=True),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("decision", sa.String(30), nullable=False),
    # Empty if it is about no version.
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)


def record(uri: str, decision: str, version: str, reason: str) -> None:
    """Write a decision to the project's database, or say that this is not possible.

    It does not raise: no rollback may fail because of its record.
    """
    row = {"decision": decision, "version": version, "reason": reason}
    try:
        with connect(uri, create=True) as connection:
            ensure(connection, uri, CONTRACT.target)
            now = datetime.now(UTC)
            connection.execute(sa.insert(table).values(decided_at=now, actor=actor(), **row))
    except (ProjectError, OSError) as error:
        print(f"warning: this decision is not recorded: {error}", file=sys.stderr)


def last(uri: str, most: int, decision: str = "") -> list[sa.Row]:
    """The newest decisions, or those of one kind, the newest first; in UTC."""
    query = sa.select(table).order_by(table.c.id.desc()).limit(most)
    if decision:
        query = query.where(table.c.decision == decision)
    if not exists(uri):
        return []
    with connect(uri) as connection:
        if not sa.inspect(connection).has_table(table.name):
            return []
        return list(connection.execute(query))


def since(row: sa.Row) -> float:
    """Hours since a decision."""
    return (datetime.now(UTC) - utc(row.decided_at)).total_seconds() / 3600


def actor() -> str:
    try:
        return os.environ.get(ACTOR) or f"{getpass.getuser()}@{socket.gethostname()}"[:200]
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"
