"""What one version of the model has predicted, in the order of time: for its monitoring."""

from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    columns = ["model_version", "predicted_at"]
    op.create_index("ix_predictions_model_version", "predictions", columns)
