"""The model as MLflow's ``PythonModel``, so that every MLflow tool can load it."""

from pathlib import Path

from mlflow.pyfunc import PythonModel

from .artifact import open_model
from .predict import Model


class RegisteredModel(Model, PythonModel):
    """The serving model with MLflow's base class."""

    def __init__(self, model: Model | None = None) -> None:
        if model:
            super().__init__(model.metadata, model.run)

    def load_context(self, context) -> None:
        model = open_model(Path(context.artifacts["model"]))
        super().__init__(model.metadata, model.run)
