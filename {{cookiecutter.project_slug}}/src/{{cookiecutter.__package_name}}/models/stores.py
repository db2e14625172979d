"""Models by connection string: load one, or copy it elsewhere.

=========================================  =====================================================
``models:/NAME@ALIAS``, ``models:/NAME/3``  a version in MLflow's registry, ``@champion`` if none
``runs:/RUN/model``                        the model that a training run has logged
``some/folder``, ``file:///…``             a folder, such as the one that an image holds
``s3://…``, ``gs://…``, ``abfs://…``       cloud storage
``postgresql+pg8000://…#NAME``             a row of a database, by SQLAlchemy URL; SQLite too
=========================================  =====================================================

Only the registry has versions; elsewhere one URI holds one model, which is written in one step.
Every load checks the serving artifact's SHA-256 before anything is deserialized.
"""

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..errors import ProjectError, hidden
from ..settings import Settings
from ..tables.databases import has_password, local_path, parsed, redacted
from ..tables.storage import in_cloud
from .artifact import METADATA, current, open_model, read_metadata, self_test, write_metadata
from .predict import Model

OF_MLFLOW = ("models:/", "runs:/")
# For clouds and databases: the model is held in memory, and a value in PostgreSQL is at most 1 GB.
LARGEST_BYTES = 500_000_000


class Store(Protocol):
    """A database or cloud storage with one model. ProjectError if it cannot be reached."""

    def metadata(self) -> dict:
        """The metadata of the model.

        :raises ProjectError: there is no model.
        """

    def read(self) -> tuple[dict, bytes]:
        """The metadata and the artifact, whose digest the caller checks."""

    def save(self, content: bytes, metadata: dict) -> None:
        """Replace the stored model in one step."""


def load_model(connection_string: str, settings: Settings) -> Model:
    """Load and verify the model that a connection string names.

    From MLflow it is an ``mlflow.pyfunc.PythonModel``; from elsewhere it has the same interface
    without that base class, so that mlflow need not be installed.

    :raises ProjectError: there is no such model, or it is not the one that was saved.
    """
    with _opened(connection_string, settings) as (_, model):
        if not connection_string.startswith(OF_MLFLOW):
            return model
        from .mlflow_model import RegisteredModel

        return RegisteredModel(model)


def identify(connection_string: str, settings: Settings) -> str:
    """The label of the model that a connection string names now, without loading it."""
    return label(known(connection_string, settings))


def known(connection_string: str, settings: Settings) -> dict:
    """The metadata of the model that a connection string names now, or what the registry has of it.

    :raises ProjectError: there is no such model.
    """
    if connection_string.startswith(OF_MLFLOW):
        from . import registry

        return registry.known(connection_string, settings)
    if folder := model_folder(connection_string):
        return read_metadata(folder)
    return _store(connection_string).metadata()


def label(metadata: dict) -> str:
    """A model's version and the start of its digest, as the name of a folder."""
    return f"{metadata.get('version', 'model')}-{metadata['sha256'][:12]}"


def model_folder(connection_string: str) -> Path | None:
    """The folder that a connection string names; None if it names something else."""
    if connection_string.startswith(OF_MLFLOW):
        return None
    path = local_path(connection_string)
    return path and current(path)


def copy(source: str, target: str, settings: Settings) -> str:
    """Copy a model that passes its self-test, with its metadata; returns the name of the copy.

    :param target: ``models:/NAME`` for its next version, with ``@ALIAS`` to set an alias; a new
        folder; or storage, where the copy replaces the stored model.
    """
    if not target:
        raise ProjectError("name a place to copy the model to.")
    with _opened(source, settings) as (folder, model):
        self_test(model)
        artifact, metadata = folder / model.metadata["artifact"], model.metadata
        if target.startswith(OF_MLFLOW):
            return _to_registry(artifact, metadata, target, named(source), settings)
        if to := local_path(target):
            return str(_to_folder(artifact, metadata, to, settings))
        return _to_store(artifact, metadata, target, settings)


def _to_registry(
    artifact: Path, metadata: dict, target: str, source: str, settings: Settings
) -> str:
    """Register a new version, which gets a number of its own."""
    from . import registry

    version = f", version {metadata['version']}" if "version" in metadata else ""
    kept = {name: value for name, value in metadata.items() if name not in ("version", "alias")}
    with tempfile.TemporaryDirectory() as temporary:
        _write(Path(temporary), artifact, kept)
        return registry.receive(Path(temporary), target, f"copied from {source}{version}", settings)


def _to_folder(artifact: Path, metadata: dict, to: Path, settings: Settings) -> Path:
    """Write a new folder in one step."""
    taken = ProjectError(f"{to} exists: remove it, or copy to another folder.")
    if (to / METADATA).is_file() and label(read_metadata(to)) == label(metadata):
        open_model(to, allow_pickle=settings.models.allow_pickle)
        return to
    if to.exists():
        raise taken
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".copy-") as unfinished:
        (staged := Path(unfinished) / to.name).mkdir()
        _write(staged, artifact, metadata)
        open_model(staged, allow_pickle=settings.models.allow_pickle)
        try:
            staged.rename(to)
        except OSError:  # another process has created it in the meantime
            raise taken from None
    return to


def _to_store(artifact: Path, metadata: dict, to: str, settings: Settings) -> str:
    """Save a model in a database or cloud storage."""
    if (size := artifact.stat().st_size) > LARGEST_BYTES:
        raise ProjectError(
            f"the model takes {size:,} bytes; {named(to)} keeps at most {LARGEST_BYTES:,}: keep it "
            "in an MLflow registry or in a folder."
        )
    _store(to).save(artifact.read_bytes(), metadata)
    load_model(to, settings)
    return to


def _write(folder: Path, artifact: Path, metadata: dict) -> None:
    """Write a model to a folder, without other files of its source."""
    shutil.copyfile(artifact, folder / metadata["artifact"])
    write_metadata(folder, metadata)


def _store(uri: str) -> Store:
    """:raises ProjectError: there is no such kind of store."""
    if in_cloud(uri):
        from .cloud_store import CloudStore

        return CloudStore(uri, LARGEST_BYTES)
    if not _has_dialect(uri):
        scheme = uri.partition("://")[0]
        raise ProjectError(f"{scheme}:// is no model store; docs/models.md lists what there is.")
    from .sql_store import SQLStore

    return SQLStore(uri)


def named(connection_string: str) -> str:
    """A connection string for messages and records, without a password."""
    of_mlflow = connection_string.startswith(OF_MLFLOW)
    return hidden(connection_string) if of_mlflow else redacted(connection_string)


def typed(connection_string: str) -> str:
    """Refuse a password in a connection string on the command line, where others can see it."""
    if has_password(connection_string):
        raise ProjectError(
            f"{named(connection_string)}: whoever lists the processes of this machine sees the "
            "password: give it as the setting models.uri, by APP__MODELS__URI or a mounted secret."
        )
    return connection_string


def _has_dialect(uri: str) -> bool:
    """Whether SQLAlchemy knows the scheme of a URL."""
    from sqlalchemy.exc import NoSuchModuleError

    try:
        parsed(uri).get_dialect()
    except (ProjectError, NoSuchModuleError):
        return False
    except ImportError:
        return True  # only its driver is missing, which `connect` reports
    return True


@contextmanager
def _opened(connection_string: str, settings: Settings):
    """A model's folder, and the verified model, whose metadata names its version."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, known = Path(temporary), {}
        if connection_string.startswith(OF_MLFLOW):
            from . import registry

            known = registry.fetch(connection_string, folder, settings)
        elif source := model_folder(connection_string):
            folder = source
        else:
            metadata, content = _store(connection_string).read()
            (folder / metadata["artifact"]).write_bytes(content)
            write_metadata(folder, metadata)
        allow_pickle, called = settings.models.allow_pickle, named(connection_string)
        model = open_model(folder, known.get("sha256"), allow_pickle, called)
        model.metadata.update(known)
        yield folder, model
