"""FastAPI as in most tutorials: pydantic, a DataFrame, ``model.predict``."""

import os

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["MODEL"])


class Flower(BaseModel):
    SEPAL_LENGTH: float
    SEPAL_WIDTH: float
    PETAL_LENGTH: float
    PETAL_WIDTH: float


class Flowers(BaseModel):
    flowers: list[Flower]


@app.post("/predict")
async def predict(body: Flowers) -> dict:
    frame = pd.DataFrame([flower.model_dump() for flower in body.flowers])
    return {"predictions": model.predict(frame).tolist()}
