"""MLflow's registry as a store of models, and the training runs beside it. It imports mlflow."""

import importlib.metadata
import importlib.util
import logging
import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from ..contract import CONTRACT
from ..errors import ProjectError, brief
from ..settings import PACKAGE, Settings
from ..tables.databases import exists, redacted
from .predict import METADATA, read_metadata
from .stores import MOST_LISTED, NoSuchModelError, NoSuchStoreError, Version

# What MLflow answers for a model, a version or an alias that is not there.
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
# To open the registry's database: 1 s in all.
TRIES = 4
# Of a registry that is a server; MLflow's own are 120 seconds and 7 tries, minutes for one that
# is down.
SERVER_SECONDS, SERVER_RETRIES = "30", "3"
# The script that MLflow runs to load the model: code, so that nothing has to be unpickled.
LOADER = """\
from mlflow.models import set_model
from {package}.models.mlflow_model import RegisteredModel

set_model(RegisteredModel())
"""


@dataclass(frozen=True)
class Record:
    """What a training run leaves in the registry beside the model itself."""

    params: dict = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


class MLflowStore:
    """A model of MLflow's registry, see ``stores.Store``."""

    def __init__(self, model: str, settings: Settings) -> None:
        _require_mlflow()
        self.model, self.settings = model, settings
        self.name = _name(settings)

    @cached_property
    def _client(self):
        if not exists(self.settings.models.tracking_uri):
            raise NoSuchStoreError(f"{self.name}: there is no such database; `train` makes it.")
        return client(self.settings)

    def versions(self) -> list[Version]:
        with _reached(self.name):
            found = self._client.search_model_versions(
                f"name = '{self.model}'", MOST_LISTED, ["version_number DESC"]
            )
            if not found:
                return []
            # A search leaves the aliases out; the model itself knows them all.
            bearers: dict[str, list[str]] = {}
            for alias, number in self._client.get_registered_model(self.model).aliases.items():
                bearers.setdefault(str(number), []).append(alias)
            return [
                _told(each, bearers.get(str(each.version), ()), self._metrics(each))
                for each in found
            ]

    def version(self, reference: str) -> Version:
        return _told(self._find(reference), (reference[1:],) if reference[:1] == "@" else ())

    def fetch(self, version: Version, folder: Path) -> None:
        import mlflow

        where = f"models:/{self.model}/{version.number}"
        try:
            uri = self._client.get_model_version_download_uri(self.model, version.number)
            with tempfile.TemporaryDirectory() as temporary:
                # Not the code, which is for whoever has MLflow and not this project.
                artifacts = f"{uri}/artifacts"
                downloaded = mlflow.artifacts.download_artifacts(artifacts, dst_path=temporary)
                model = next(path.parent for path in Path(downloaded).rglob(METADATA))
                shutil.copytree(model, folder, dirs_exist_ok=True)
        except Exception as error:  # of whatever library reads the storage
            if not _says_gone(error):
                raise ProjectError(f"{where}: its files cannot be had: {brief(error)}.") from error
            gone = "the registry knows it but its files are gone; roll back or train again"
            raise ProjectError(f"{where}: {gone}.") from None

    def save(self, folder: Path, tags: dict[str, str]) -> str:
        metrics = read_metadata(folder).get("metrics", {})
        return register(folder, Record(metrics=metrics), self.settings, self.model, tags)

    def set_alias(self, alias: str, number: str) -> None:
        with _reached(self.name):
            self._client.set_registered_model_alias(self.model, alias, number)

    def drop_alias(self, alias: str) -> None:
        with _reached(self.name):
            self._client.delete_registered_model_alias(self.model, alias)

    def tag(self, number: str, tags: dict[str, str]) -> None:
        with _reached(self.name):
            for key, value in tags.items():
                self._client.set_model_version_tag(self.model, number, key, value)

    def _find(self, reference: str):
        """MLflow's own record of a version."""
        from mlflow.exceptions import MlflowException

        try:
            if reference.startswith("@"):
                return self._client.get_model_version_by_alias(self.model, reference[1:])
            return self._client.get_model_version(self.model, reference)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise ProjectError(f"{self.name}: {brief(error)}.") from None
        slash = "/" if reference[:1] not in ("@", "") else ""
        raise NoSuchModelError(
            f"models:/{self.model}{slash}{reference}: there is no such model in the {self.name}; "
            "`history` lists what there is, `train` makes one."
        )

    def _metrics(self, found) -> dict[str, float]:
        return self._client.get_run(found.run_id).data.metrics if found.run_id else {}


def _says_gone(error: Exception) -> bool:
    """Whether a storage of artifacts answers that there is no such thing."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in ABSENT
    answer = getattr(error, "response", None)  # of a server, or of S3
    if answer is not None:
        return getattr(answer, "status_code", None) == 404
    # MLflow's own OSError for a folder that is not there has no number.
    return isinstance(error, StopIteration | FileNotFoundError) or (
        type(error) is OSError and error.errno is None
    )


def _name(settings: Settings) -> str:
    """The registry, as messages call it."""
    return f"registry {redacted(settings.models.tracking_uri)}"


@contextmanager
def _reached(name: str):
    """MLflow's errors as sentences about the registry of that name."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise ProjectError(f"{name}: {brief(error)}.") from None


def _told(found, aliases=(), metrics: dict[str, float] | None = None) -> Version:
    """What we know of MLflow's own record of a version."""
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    digest, tags = found.tags.get("sha256", ""), dict(found.tags)
    return Version(
        str(found.version), digest, None, created, tuple(sorted(aliases)), tags, metrics or {}
    )


def _require_mlflow() -> None:
    if importlib.util.find_spec("mlflow") is None:
        raise ProjectError(
            "a models:/ connection string needs mlflow: install requirements-train.txt, or name "
            "a folder or another store that `copy models:/… TO` has filled."
        )


def client(settings: Settings):
    """An MLflow client on the configured registry, and mlflow itself set to use it."""
    _require_mlflow()
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


def register(
    folder: Path,
    record: Record,
    settings: Settings,
    name: str = PACKAGE,
    more_tags: dict[str, str] | None = None,
) -> str:
    """Log a training run and register its model; returns the new version.

    The version has no alias yet: whether it may serve is for the caller to decide.

    :raises ProjectError: the registry cannot be reached, or refuses it.
    """
    tracking = client(settings)
    with _reached(_name(settings)):
        return _register(tracking, folder, record, settings, name, more_tags or {})


def _register(
    tracking, folder: Path, record: Record, settings: Settings, name: str, more_tags: dict[str, str]
) -> str:
    import mlflow

    metadata = read_metadata(folder)
    with mlflow.start_run(experiment_id=_experiment(tracking, settings)) as run:
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
    """Another process may have made the same thing since we looked."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _experiment(tracking, settings: Settings) -> str:
    found = tracking.get_experiment_by_name(PACKAGE)
    if found is None:
        # A server keeps the files itself, where it was told to.
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
            # pandas makes whole numbers with gaps floats, which MLflow would refuse as "long".
            kind = AnyType()
        return ColSpec(kind, column.name, required=not column.nullable)

    target = spec(CONTRACT.target)
    return Schema([spec(column) for column in CONTRACT.columns]), Schema([ColSpec(target.type)])
