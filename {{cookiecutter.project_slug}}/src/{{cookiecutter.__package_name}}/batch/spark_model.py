"""The model as Spark sees it: an MLflow model whose input is a batch of ours, one in each row.

The numeric form of a batch goes in, what ``predict.Model`` answers to it comes out. So Spark gives
the model the same batches as the local engine does, and there is nothing to be rounded.
"""

import atexit
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from ..contract import CONTRACT
from ..errors import ProjectError
from ..models import stores
from ..models.predict import Model, open_model, read_metadata
from ..settings import Settings

RESULT = "labels array<double>, probability array<double>"


class BatchModel:
    """What MLflow calls on an executor."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, data, params=None):
        """``data`` is a DataFrame with one column: the rows of a matrix, one after the other."""
        import pandas as pd

        found = [self._answer(np.asarray(cell, np.float32)) for cell in data.iloc[:, 0]]
        return pd.DataFrame(found, columns=["labels", "probability"])

    def _answer(self, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels, probability = self.model.codes(cell.reshape(-1, len(CONTRACT.columns)))
        return labels, np.empty(0) if probability is None else probability


def _load_pyfunc(path: str, model_config: dict) -> BatchModel:
    """MLflow's way to a model: only the file that the driver has verified is opened."""
    folder = Path(path)
    return BatchModel(open_model(folder, model_config["sha256"], model_config["allow_pickle"]))


def function(spark, uri: str, model: Model, config: Settings, work: Path):
    """``mlflow.pyfunc.spark_udf`` over the serving artifact that ``uri`` names.

    :param model: the same one, as the run knows it.
    :param work: a folder that is new for every attempt, on storage that executors reach, too.
    :raises ProjectError: it is another one by now.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    _own_temporary_files()
    from mlflow import pyfunc
    from mlflow.exceptions import MlflowException

    folder = Path(stores.copy(uri, str(work / "model"), config))
    sha256 = read_metadata(folder)["sha256"]
    if sha256 != model.metadata["sha256"]:
        what = "has changed since the run began: start it again"
        raise ProjectError(f"{stores.named(uri)} {what}.")
    target = work / "mlflow-model"
    pyfunc.save_model(
        str(target),
        loader_module=__name__,
        data_path=str(folder),
        model_config={"sha256": sha256, "allow_pickle": config.models.allow_pickle},
        pip_requirements=[],
    )
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    try:
        return pyfunc.spark_udf(spark, str(target), result_type=RESULT, env_manager="local")
    except (MlflowException, RuntimeError) as error:
        raise ProjectError(f"MLflow makes no function for this Spark: {error}") from error


@cache
def _own_temporary_files() -> None:
    """MLflow leaves copies of the model among them: let them end with this process."""
    folder = tempfile.mkdtemp(prefix="spark-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tempfile.tempdir = folder
