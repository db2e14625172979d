"""Log a training run in MLflow and register its model."""

import importlib.metadata
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..contract import CONTRACT
from ..settings import PACKAGE, Settings
from .artifact import read_metadata
from .mlflow_client import client, reached

# The script that MLflow runs to load the model, so that nothing has to be unpickled.
LOADER = """\
from mlflow.models import set_model
from {package}.models.mlflow_model import RegisteredModel

set_model(RegisteredModel())
"""


@dataclass(frozen=True)
class Record:
    """What a training run logs in the registry besides the model itself."""

    params: dict = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def register(
    folder: Path,
    record: Record,
    settings: Settings,
    name: str = PACKAGE,
    more_tags: dict[str, str] | None = None,
) -> str:
    """Log a training run and register its model; returns the new version.

    The version has no alias yet; the caller decides whether it may serve.

    :raises ProjectError: the registry cannot be reached, or refuses the model.
    """
    tracking = client(settings)
    with reached(settings):
        return _register(tracking, folder, record, settings, name, more_tags or {})


def _register(
    tracking, folder: Path, record: Record, settings: Settings, name: str, more_tags: dict[str, str]
) -> str:
    import mlflow

    metadata = read_metadata(folder)
    with mlflow.start_run(experiment_id=_experiment(tracking, settings)) as run:
        mlflow.set_tag("sha256", metadata["sha256"])
        mlflow.log_params(record.params)
        mlflow.log_metrics(record.metrics)
        for path in record.files:
            mlflow.log_artifact(str(path))
        logged = _log_model(folder, metadata["artifact"])
    if not tracking.search_registered_models(f"name = '{name}'"):
        with _unless_there():
            tracking.create_registered_model(name)
    tags = {"sha256": metadata["sha256"], "contract": metadata["contract"], **more_tags}
    created = tracking.create_model_version(
        name, f"models:/{logged.model_id}", run.info.run_id, tags, model_id=logged.model_id
    )
    return str(created.version)


@contextmanager
def _unless_there():
    """Accept that another process has created the same thing in the meantime."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _experiment(tracking, settings: Settings) -> str:
    found = tracking.get_experiment_by_name(PACKAGE)
    if found is None:
        # A server stores the files itself, where it is configured to.
        place = settings.models.artifacts
        if settings.models.tracking_uri.startswith("http") and place.startswith("project:"):
            place = None
        with _unless_there():
            return tracking.create_experiment(PACKAGE, place)
        found = tracking.get_experiment_by_name(PACKAGE)
    return found.experiment_id


def _log_model(folder: Path, artifact: str):
    import mlflow
    from mlflow.models import ModelSignature

    serving = {".onnx": ["onnxruntime"], ".skops": ["scikit-learn", "skops"]}
    needed = ["numpy", "pyarrow", "pydantic-settings", *serving.get(Path(artifact).suffix, [])]
    with tempfile.TemporaryDirectory() as temporary:
        loader = Path(temporary) / "load_model.py"
        loader.write_text(LOADER.format(package=PACKAGE), "utf-8")
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(loader),
            artifacts={"model": str(folder)},
            code_paths=[str(Path(__file__).parents[1])],
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in needed],
            signature=ModelSignature(*_signature()),
        )


def _signature():
    """Inputs and output of the model, from the contract, in MLflow's types."""
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    types = {"float": "double", "integer": "long", "date": "datetime", "boolean": "boolean"}

    def spec(column) -> ColSpec:
        kind = "long" if column.numbered else types.get(column.type, "string")
        if kind == "long" and column.nullable:
            # pandas converts whole numbers with gaps to floats, which MLflow refuses as "long".
            kind = AnyType()
        return ColSpec(kind, column.name, required=not column.nullable)

    target = spec(CONTRACT.target)
    return Schema([spec(column) for column in CONTRACT.columns]), Schema([ColSpec(target.type)])
