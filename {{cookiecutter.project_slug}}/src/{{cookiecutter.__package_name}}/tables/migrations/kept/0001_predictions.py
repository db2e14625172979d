"""The predictions of the API, and the segments of its spool that are among them."""

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
    target = op.get_context().opts["target"]
    prediction = sa.BigInteger if target.numbered else TYPES[target.type]
    op.create_table(
        "predictions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("predicted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("client", sa.String(261), nullable=False),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("prediction", prediction),
        sa.Column("probability", sa.Double),
    )
    op.create_index("ix_predictions_request_id", "predictions", ["request_id"])
    op.create_index("ix_predictions_predicted_at", "predictions", ["predicted_at"])
    op.create_table("kept_segments", sa.Column("name", sa.String(64), primary_key=True))
