"""Fit both models and save them in every server's format, with rows and the right answers.

Run in the generated project's development environment: ``prepare.py FOLDER``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import joblib
import mlflow
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from iris_flower_prediction import settings
from iris_flower_prediction.contract import CONTRACT
from iris_flower_prediction.models import export
from iris_flower_prediction.training.split import load_split

ROWS = 100
ESTIMATORS = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "forest": RandomForestClassifier(n_estimators=100, random_state=0),
}


def save_models(folder: Path) -> None:
    """Fit with and without column names, so that no peer loses time with warnings."""
    config = settings.load()
    split = load_split(config)
    features, target = split.training.astype(float).round(1), split.target.astype(int)
    frame = pd.DataFrame(features, columns=CONTRACT.names)
    rows = np.random.default_rng(0).permutation(features)[:ROWS]
    answers = {}
    for name, estimator in ESTIMATORS.items():
        estimator.fit(features, target)
        sides = (split.training, split.target, split.holdout)
        export.save(estimator, folder / name, *sides, config)
        joblib.dump(estimator, folder / f"{name}.joblib")
        answers[name] = estimator.predict(rows).tolist()
        save_with_names(clone(estimator).fit(frame, target), folder, name, frame)
    (folder / "rows.json").write_text(json.dumps({"rows": rows.tolist(), "answers": answers}))


def save_with_names(estimator: Any, folder: Path, name: str, frame: pd.DataFrame) -> None:
    joblib.dump(estimator, folder / f"{name}-names.joblib")
    mlflow.sklearn.save_model(
        estimator,
        folder / f"{name}-mlflow",
        signature=mlflow.models.infer_signature(frame, np.zeros(1, np.int64)),
        pip_requirements=["scikit-learn"],
        skops_trusted_types=["sklearn.tree._tree.Tree"],
    )


if __name__ == "__main__":
    save_models(Path(sys.argv[1]))
