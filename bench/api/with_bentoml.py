"""The model as two BentoML services, each written in the way that is fastest for it."""

import os

import bentoml
import joblib
import numpy as np

SETTINGS = {"workers": int(os.environ["WORKERS"]), "logging": {"access": {"enabled": False}}}


@bentoml.service(**SETTINGS)
class Single:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    async def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows)


@bentoml.service(**SETTINGS)
class Batching:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api(batchable=True, max_batch_size=1600)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows)
