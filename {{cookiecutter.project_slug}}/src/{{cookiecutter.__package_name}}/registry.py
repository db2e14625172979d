"""The model registry: MLflow's, with the aliases ``champion`` and ``challenger``.

``load_model`` takes a connection string: ``models:/name@alias`` or ``models:/name/version`` for
the registry, a path or a ``file:`` URI for a model in a folder. Only ``models:/`` imports mlflow.
"""

import importlib.metadata
import importlib.util
import logging
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .contract import CONTRACT
from .databases import local_path, redacted
from .errors import ProjectError, brief
from .predict import METADATA, Model, current, open_model, read_metadata, write_metadata
from .settings import PACKAGE, Settings

# What MLflow answers for a model, a version or an alias that is not there.
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
# To open the registry's database: 1 s in all.
TRIES = 4
CHAMPION, CHALLENGER = "champion", "challenger"
# The script that MLflow runs to load the model: code, so that nothing has to be unpickled.
LOADER = """\
from mlflow.models import set_model
from {package}.mlflow_model import RegisteredModel

set_model(RegisteredModel())
"""


class NoSuchModelError(ProjectError):
    """The registry answers, and has no such model."""


def load_model(connection_string: str, settings: Settings) -> Model:
    """The verified model that a connection string names.

    From the registry it is an ``mlflow.pyfunc.PythonModel``; from a folder it has the same
    interface without that base, so that mlflow need not be installed.

    :raises ProjectError: no such model, or it is not the one that was saved.
    """
    folder, version = _locate(connection_string, settings)
    expected = version.tags.get("sha256") if version else None
    model = open_model(folder, expected, settings.models.allow_pickle)
    if version is None:
        return model
    from .mlflow_model import RegisteredModel

    model.metadata["version"] = str(version.version)
    if alias := connection_string.partition("@")[2]:
        model.metadata["alias"] = alias
    return RegisteredModel(model)


def identify(connection_string: str, settings: Settings) -> str:
    """The label of the model that a connection string names now, without loading it."""
    if not connection_string.startswith("models:/"):
        return label(read_metadata(_folder(connection_string)))
    version = _version(connection_string, settings)
    return label(version.tags | {"version": version.version})


def label(metadata: dict) -> str:
    """A model's version and the start of its digest, as the name of a folder."""
    return f"{metadata.get('version', 'model')}-{metadata['sha256'][:12]}"


def copy(source: str, target: str, settings: Settings) -> Path:
    """Copy a verified model with its metadata to a new folder, whole or not at all."""
    model = load_model(source, settings)
    to = _folder(target)
    if to.exists():
        raise ProjectError(f"{to} exists: remove it, or copy to another folder.")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".copy-") as unfinished:
        staged = Path(shutil.copytree(_locate(source, settings)[0], Path(unfinished) / to.name))
        write_metadata(staged, model.metadata)
        open_model(staged, allow_pickle=settings.models.allow_pickle)
        staged.rename(to)
    return to


def client(settings: Settings):
    """An MLflow client on the configured registry, and mlflow itself set to use it."""
    if importlib.util.find_spec("mlflow") is None:
        raise ProjectError(
            "a models:/ connection string needs mlflow: install requirements-train.txt, or name "
            "a folder that `copy models:/… FOLDER` made."
        )
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.utils.environment"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
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


@dataclass(frozen=True)
class Record:
    """What a training run leaves in the registry beside the model itself."""

    params: dict
    metrics: dict[str, float]
    files: list[Path]


def register(folder: Path, record: Record, settings: Settings) -> str:
    """Log a training run and register its model; returns the new version.

    The version has no alias yet: whether it may serve is for the caller to decide.
    """
    tracking = client(settings)
    import mlflow

    metadata = read_metadata(folder)
    with mlflow.start_run(experiment_id=_experiment(tracking, settings)) as run:
        mlflow.log_params(record.params)
        mlflow.log_metrics(record.metrics)
        for path in record.files:
            mlflow.log_artifact(str(path))
        logged = _log_model(folder, metadata["artifact"])
    name = metadata["name"]
    if not tracking.search_registered_models(f"name = '{name}'"):
        tracking.create_registered_model(name)
    tags = {"sha256": metadata["sha256"], "contract": metadata["contract"]}
    created = tracking.create_model_version(
        name, f"models:/{logged.model_id}", run.info.run_id, tags, model_id=logged.model_id
    )
    return str(created.version)


def set_challenger(version: str, settings: Settings) -> None:
    client(settings).set_registered_model_alias(PACKAGE, CHALLENGER, version)


def require_fit(version: str, force: bool, settings: Settings) -> None:
    """Refuse a version that cannot be loaded, or that was rejected unless ``force`` is given."""
    uri = f"models:/{PACKAGE}/{version}"
    load_model(uri, settings)
    tags = _version(uri, settings).tags
    if tags.get("verdict") == "rejected" and not force:
        raise ProjectError(f"version {version} was rejected: {tags['reason']}; or --force.")


def promote(version: str, reason: str, settings: Settings) -> None:
    """Make a version the champion; it remembers whom it replaced, for ``rollback``."""
    tracking = client(settings)
    chosen = _version(f"models:/{PACKAGE}/{version}", settings)
    champion = find(CHAMPION, settings)
    if champion and champion.version == chosen.version:
        raise ProjectError(f"version {version} is the champion already.")
    tags = {"verdict": "promoted", "reason": reason, "promoted_at": now()}
    if champion:
        tags["replaced"] = str(champion.version)
    _tag(tracking, chosen.version, tags)
    tracking.set_registered_model_alias(PACKAGE, CHAMPION, chosen.version)
    if CHALLENGER in chosen.aliases:
        tracking.delete_registered_model_alias(PACKAGE, CHALLENGER)


def rollback(settings: Settings) -> tuple[str, str]:
    """Put the previous champion back; returns the versions (from, to)."""
    tracking = client(settings)
    champion = find(CHAMPION, settings)
    previous = champion.tags.get("replaced") if champion else None
    if not previous:
        raise ProjectError("there is no previous champion to go back to; see `history`.")
    load_model(f"models:/{PACKAGE}/{previous}", settings)
    tracking.set_registered_model_alias(PACKAGE, CHAMPION, previous)
    tags = {"verdict": "rolled back", "reason": f"rolled back to version {previous} at {now()}"}
    _tag(tracking, champion.version, tags)
    return str(champion.version), previous


def history(settings: Settings) -> list[dict]:
    """Every version, newest first: version, aliases, verdict, reason, when, and its metrics."""
    tracking = client(settings)
    rows = []
    for each in tracking.search_model_versions(f"name = '{PACKAGE}'", max_results=1000):
        # A search leaves the aliases out; they come with the version itself.
        aliases = tracking.get_model_version(PACKAGE, each.version).aliases
        created = datetime.fromtimestamp(each.creation_timestamp / 1000, UTC)
        metrics = tracking.get_run(each.run_id).data.metrics if each.run_id else {}
        rows.append(
            {
                "version": int(each.version),
                "aliases": ", ".join(aliases),
                "verdict": each.tags.get("verdict", ""),
                "created": f"{created:%Y-%m-%d %H:%M:%S}Z",
                "reason": each.tags.get("reason", ""),
                "metrics": metrics,
            }
        )
    return sorted(rows, key=lambda row: -row["version"])


def find(alias: str, settings: Settings):
    """The MLflow model version behind an alias, None if there is none."""
    try:
        return _version(f"models:/{PACKAGE}@{alias}", settings)
    except NoSuchModelError:
        return None


def set_verdict(version: str, verdict: str, reason: str, settings: Settings) -> None:
    _tag(client(settings), version, {"verdict": verdict, "reason": reason})


def _tag(tracking, version: str, tags: dict[str, str]) -> None:
    for key, value in tags.items():
        tracking.set_model_version_tag(PACKAGE, version, key, value)


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _experiment(tracking, settings: Settings) -> str:
    found = tracking.get_experiment_by_name(PACKAGE)
    return (
        found.experiment_id
        if found
        else tracking.create_experiment(PACKAGE, settings.models.artifacts)
    )


def _log_model(folder: Path, artifact: str):
    import mlflow
    from mlflow.models import ModelSignature

    serving = {".onnx": ["onnxruntime"], ".skops": ["scikit-learn", "skops"]}
    needed = ["numpy", "pyarrow", "pydantic-settings", *serving.get(Path(artifact).suffix, [])]
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        # MLflow would rather read the signature off type hints or an example; the contract has it.
        warnings.simplefilter("ignore", UserWarning)
        loader = Path(temporary) / "load_model.py"
        loader.write_text(LOADER.format(package=PACKAGE), "utf-8")
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(loader),
            artifacts={"model": str(folder)},
            code_paths=[str(Path(__file__).parent)],
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


def _folder(connection_string: str) -> Path:
    path = local_path(connection_string)
    if path is None:
        scheme = connection_string.partition("://")[0]
        raise ProjectError(f"{scheme}:// is no model store; use models:/name@alias or a folder.")
    return current(path)


def _version(connection_string: str, settings: Settings):
    """The MLflow model version that a ``models:/`` string names."""
    tracking = client(settings)
    from mlflow.exceptions import MlflowException

    name, at, alias = connection_string.removeprefix("models:/").partition("@")
    try:
        if at:
            return tracking.get_model_version_by_alias(name, alias)
        name, _, number = name.partition("/")
        return tracking.get_model_version(name, number)
    except MlflowException as error:
        registry = redacted(settings.models.tracking_uri)
        if error.error_code not in ABSENT:
            raise ProjectError(f"registry {registry}: {brief(error)}.") from None
        raise NoSuchModelError(
            f"{connection_string}: there is no such model in the registry "
            f"{registry}; `history` lists what there is, "
            "`train` makes one."
        ) from None


def _locate(connection_string: str, settings: Settings):
    """The folder of a model, and its registry version or None."""
    if not connection_string.startswith("models:/"):
        return _folder(connection_string), None
    version = _version(connection_string, settings)
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        tracking = client(settings)
        source = tracking.get_model_version_download_uri(version.name, version.version)
        folder = Path(mlflow.artifacts.download_artifacts(source)) / "artifacts"
        return next(path.parent for path in folder.rglob(METADATA)), version
    except (MlflowException, OSError, StopIteration):
        raise ProjectError(
            f"{connection_string}: the registry knows it but its files are gone; roll back or "
            "train again."
        ) from None
