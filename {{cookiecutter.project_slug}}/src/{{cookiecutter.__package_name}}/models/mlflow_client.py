"""A client of MLflow's: quiet, bounded in time, and with errors that are sentences."""

import importlib.util
import logging
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

from ..errors import ProjectError, brief
from ..settings import Settings
from ..tables.databases import redacted

# To open the registry's database: 1 s in all.
TRIES = 4
# Of a registry that is a server; MLflow's own are 120 seconds and 7 tries, minutes for one that
# is down.
SERVER_SECONDS, SERVER_RETRIES = "30", "3"


def client(settings: Settings):
    """An MLflow client on the configured registry, and mlflow itself set to use it."""
    require_mlflow()
    quiet()
    import mlflow

    uri = settings.models.tracking_uri
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    if not uri.startswith("http"):
        from mlflow.store.db import utils as databases

        # MLflow would try ten times, for minutes, before it said that the database is down.
        databases.MAX_RETRY_COUNT = TRIES
    mlflow.set_tracking_uri(uri)
    try:
        return mlflow.MlflowClient()
    except Exception as error:
        raise ProjectError(f"models.tracking_uri {redacted(uri)}: {brief(error)}.") from None


def require_mlflow() -> None:
    """:raises ProjectError: it is not installed, as in an image."""
    if importlib.util.find_spec("mlflow") is None:
        raise ProjectError(
            "models:/ and runs:/ need mlflow: install requirements-train.txt, or name a folder or "
            "other storage that `copy models:/… TO` has filled."
        )


def quiet() -> None:
    """No telemetry, progress bars and notes of MLflow's; bounds for a server that is down."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", SERVER_SECONDS)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", SERVER_RETRIES)
    for noisy in ("alembic", "mlflow.store", "mlflow.utils.environment"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # It would rather read a signature off type hints or an example; ours is from the contract. The
    # filter stays: taken back after each call, it would be missing in other threads' calls.
    warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")


@contextmanager
def reached(settings: Settings):
    """MLflow's errors as sentences about the registry."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        where = redacted(settings.models.tracking_uri)
        raise ProjectError(f"registry {where}: {brief(error)}.") from None
