"""The model as a BentoML service; BATCHING=1 puts requests together."""

import os

import bentoml
import joblib
import numpy as np

BATCHING = os.environ["BATCHING"] == "1"


@bentoml.service(workers=int(os.environ["WORKERS"]), logging={"access": {"enabled": False}})
class Iris:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api(batchable=BATCHING)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows)
