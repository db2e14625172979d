"""An MLflow client without notes and telemetry, with time limits and errors for users."""

import importlib.util
import logging
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

from ..errors import ProjectError, brief
from ..settings import Settings
from ..tables.databases import redacted

# Tries to open the registry's database: 1 s in all.
TRIES = 4
# For a registry that is a server. MLflow's defaults, 120 seconds and 7 tries, take minutes if it is
# down.
SERVER_SECONDS, SERVER_RETRIES = "30", "3"


def client(settings: Settings):
    """An MLflow client for the configured registry; also configures mlflow itself to use it."""
    require_mlflow()
    quiet()
    import mlflow

    uri = settings.models.tracking_uri
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    if not uri.startswith("http"):
        from mlflow.store.db import utils as databases

        # MLflow's default is ten tries, which take minutes if the database is down.
        databases.MAX_RETRY_COUNT = TRIES
    mlflow.set_tracking_uri(uri)
    try:
        return mlflow.MlflowClient()
    except Exception as error:
        raise ProjectError(f"models.tracking_uri {redacted(uri)}: {brief(error)}.") from None


def require_mlflow() -> None:
    """:raises ProjectError: mlflow is not installed, for example in an image."""
    if importlib.util.find_spec("mlflow") is None:
        raise ProjectError(
            "models:/ and runs:/ need mlflow: install requirements-train.txt, or name a folder or "
            "other storage that `copy models:/… TO` has filled."
        )


def quiet() -> None:
    """Turn off MLflow's telemetry, progress bars and notes; limit the wait for a server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", SERVER_SECONDS)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", SERVER_RETRIES)
    for noisy in ("alembic", "mlflow.store", "mlflow.utils.environment"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # MLflow recommends type hints or an example for the signature; ours is from the contract. The
    # filter stays set, because removing it after a call would affect calls in other threads.
    warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")


@contextmanager
def reached(settings: Settings):
    """Turn MLflow's errors into messages about the registry."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        where = redacted(settings.models.tracking_uri)
        raise ProjectError(f"registry {where}: {brief(error)}.") from None
