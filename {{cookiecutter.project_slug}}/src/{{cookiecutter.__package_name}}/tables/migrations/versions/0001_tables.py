"""The tables for claims of incremental scoring and for predictions of the API.

Tables that are older than this history are kept with their rows.
"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None
TYPES = {
    "float": sa.Double,
    "integer": sa.BigInteger,
    "boolean": sa.Boolean,
    "category": sa.Text,
    "date": sa.Date,
}


def upgrade() -> None:
    op.create_table(
        "score_claims",
        sa.Column("source", sa.String(1000), primary_key=True),
        sa.Column("item", sa.String(1000), primary_key=True),
        sa.Column("until", sa.String(1000)),
        sa.Column("run_id", sa.String(200), nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        if_not_exists=True,
    )
    if sa.inspect(op.get_bind()).has_table("alembic_version_kept"):
        op.rename_table("predictions", "kept_predictions")
    target = op.get_context().opts["target"]
    op.create_table(
        "kept_predictions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("predicted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("client", sa.String(261), nullable=False),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("prediction", sa.BigInteger if target.numbered else TYPES[target.type]),
        sa.Column("probability", sa.Double),
        if_not_exists=True,
    )
    for name, columns in {
        "ix_predictions_request_id": ["request_id"],
        "ix_predictions_predicted_at": ["predicted_at"],
        # For monitoring: the predictions of one version of the model, in the order of time.
        "ix_predictions_model_version": ["model_version", "predicted_at"],
    }.items():
        op.create_index(name, "kept_predictions", columns, if_not_exists=True)
    # The files of the API's spool whose predictions are in the database.
    op.create_table(
        "kept_segments", sa.Column("name", sa.String(64), primary_key=True), if_not_exists=True
    )
