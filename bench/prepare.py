"""Draw inputs from the contract's ranges, and save two models: for serving and in MLflow.

Run in the generated project's environment: ``prepare.py FOLDER STORE NAME=ROWS …``.
"""

import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from iris_flower_prediction import settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import export
from iris_flower_prediction.training.split import load_split

ROW_GROUP = 1_000_000
ESTIMATORS = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "forest": RandomForestClassifier(n_estimators=100, random_state=0),
}


def write_input(path: Path, rows: int) -> None:
    """float64 rows, each column uniform over its range; the first rows are the same at any size."""
    random = np.random.default_rng(0)
    schema = pa.schema([(column.name, pa.float64()) for column in CONTRACT.columns])
    with pq.ParquetWriter(path, schema) as out:
        for start in range(0, rows, ROW_GROUP):
            columns = [
                random.uniform(column.minimum, column.maximum, ROW_GROUP)[: rows - start]
                for column in CONTRACT.columns
            ]
            out.write_table(pa.table(columns, schema=schema))


def save_models(folder: Path, store: str) -> None:
    config = settings.load()
    split = load_split(config)
    frame = pd.DataFrame(split.training, columns=CONTRACT.names)
    signature = mlflow.models.infer_signature(frame.astype(float), np.zeros(1, np.int64))
    mlflow.set_tracking_uri(store)
    experiment = mlflow.create_experiment("bench", (folder / "mlflow").as_uri())
    for name, estimator in ESTIMATORS.items():
        estimator.fit(frame, split.target.astype(int))
        sides = (split.training, split.target, split.holdout)
        export.save(estimator, folder / name, *sides, config)
        with mlflow.start_run(experiment_id=experiment):
            mlflow.sklearn.log_model(
                estimator,
                name=name,
                registered_model_name=name,
                signature=signature,
                pip_requirements=["scikit-learn"],
                skops_trusted_types=["sklearn.tree._tree.Tree"],
            )


if __name__ == "__main__":
    folder, store = Path(sys.argv[1]), sys.argv[2]
    for name, rows in (argument.split("=") for argument in sys.argv[3:]):
        write_input(folder / name, int(rows))
    save_models(folder, store)
