"""The ceiling: the framework, the server and the body of ours, and an answer that costs nothing."""

import gc

from fastapi import FastAPI
from pydantic import BaseModel


class Body(BaseModel):
    model: str
    data: dict[str, list[float]]


app = FastAPI()


@app.post("/predict")
async def predict(body: Body) -> dict:  # noqa: ARG001 - validated, not used
    return {"predictions": [2]}


gc.collect()
gc.freeze()
