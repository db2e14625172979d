"""Models by connection string: load, copy, promote, roll back; stores.py says what may be named.

A connection string names a version in a store, or the folder of one model, such as the one that an
image holds. Every load checks the serving artifact's SHA-256 before anything is deserialized.
"""

import shutil
import tempfile
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ProjectError
from ..settings import PACKAGE, Settings
from ..tables.databases import has_password, local_path, parsed, redacted
from .predict import Model, current, open_model, read_metadata, self_test, write_metadata
from .stores import (
    CHALLENGER,
    CHAMPION,
    NoSuchModelError,
    NoSuchStoreError,
    Reference,
    Store,
    Version,
    is_cloud,
    is_store,
    parse,
)

# Where `train` registers what it makes.
TRAINED = f"models:/{PACKAGE}"


def load_model(connection_string: str, settings: Settings) -> Model:
    """The verified model that a connection string names.

    From MLflow's registry it is an ``mlflow.pyfunc.PythonModel``; from elsewhere it has the same
    interface without that base, so that mlflow need not be installed.

    :raises ProjectError: no such model, or it is not the one that was saved.
    """
    with _opened(connection_string, settings) as (_, model):
        if not connection_string.startswith("models:/"):
            return model
        from .mlflow_model import RegisteredModel

        return RegisteredModel(model)


def identify(connection_string: str, settings: Settings) -> str:
    """The label of the model that a connection string names now, without loading it."""
    folder = model_folder(connection_string)
    if folder:
        return label(read_metadata(folder))
    _, version = _find(connection_string, settings)
    return label({"sha256": version.sha256, "version": version.number})


def label(metadata: dict) -> str:
    """A model's version and the start of its digest, as the name of a folder."""
    return f"{metadata.get('version', 'model')}-{metadata['sha256'][:12]}"


def model_folder(connection_string: str) -> Path | None:
    """The folder of one model that a connection string names; None where it names a store."""
    if connection_string.startswith("models:/"):
        return None
    path = local_path(connection_string)
    if path is None or parse(connection_string).version or is_store(path):
        return None
    return current(path)


def store_of(connection_string: str) -> str | None:
    """The store of a version that a connection string names; None for the folder of one model."""
    return None if model_folder(connection_string) else parse(connection_string).store


def copy(source: str, target: str, settings: Settings) -> str:
    """Copy a verified model with its metadata, and verify it on arrival; returns what names it.

    :param target: a new folder, or a store: there it becomes the next version, and bears the alias
        behind ``@`` if there is one. What bears the alias already is not copied again.
    """
    with _opened(source, settings) as (folder, model):
        to = model_folder(target)
        if to:
            return str(_to_folder(folder, model.metadata, to, settings))
        return _to_store(folder, model.metadata, parse(target), named(source), settings)


def _to_folder(folder: Path, metadata: dict, to: Path, settings: Settings) -> Path:
    """A new folder, whole or not at all."""
    if to.exists():
        raise ProjectError(f"{to} exists: remove it, or copy to another folder.")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".copy-") as unfinished:
        staged = Path(shutil.copytree(folder, Path(unfinished) / to.name))
        write_metadata(staged, metadata)
        open_model(staged, allow_pickle=settings.models.allow_pickle)
        staged.rename(to)
    return to


def _to_store(folder: Path, metadata: dict, to: Reference, source: str, settings: Settings) -> str:
    """A new version; its alias is set after the version has proven itself there."""
    if to.version and not to.version.startswith("@"):
        raise ProjectError(f"{to}: a store numbers its versions itself; name none.")
    store, alias = open_store(to.store, settings), to.version[1:]
    bearer = _bearer(store, alias) if alias else None
    if bearer and bearer.sha256 == metadata["sha256"]:
        with suppress(ProjectError):  # what was damaged since is copied again
            return _arrived(Reference(to.store, bearer.number), metadata["sha256"], settings)
    came_from = f"copied from {source}"
    if "version" in metadata:
        came_from += f", version {metadata['version']}"
    # There it has another number.
    kept = {key: value for key, value in metadata.items() if key not in ("version", "alias")}
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(shutil.copytree(folder, Path(temporary) / "model"))
        write_metadata(staged, kept)
        number = store.save(staged, {"contract": kept["contract"], "source": came_from})
    arrived = _arrived(Reference(to.store, number), metadata["sha256"], settings)
    if alias == CHAMPION:
        promote(number, came_from, settings, to.store)
    elif alias:
        store.set_alias(alias, number)
    return arrived


def _arrived(there: Reference, sha256: str, settings: Settings) -> str:
    """What names a version, which has that digest and proves itself."""
    with _opened(str(there), settings, sha256) as (_, model):
        self_test(model)
    return str(there)


def promote(version: str, reason: str, settings: Settings, store: str = TRAINED) -> None:
    """Make a version the champion; it remembers whom it replaced, for ``rollback``."""
    opened = open_store(store, settings)
    chosen, champion = opened.version(version), _bearer(opened, CHAMPION)
    if champion and champion.number == chosen.number:
        raise ProjectError(f"version {version} is the champion already.")
    tags = {"verdict": "promoted", "reason": reason, "promoted_at": now()}
    if champion:
        tags["replaced"] = champion.number
    opened.tag(chosen.number, tags)
    opened.set_alias(CHAMPION, chosen.number)
    challenger = _bearer(opened, CHALLENGER)
    if challenger and challenger.number == chosen.number:
        opened.drop_alias(CHALLENGER)


def rollback(settings: Settings, store: str = TRAINED) -> tuple[str, str]:
    """Put the previous champion back; returns the versions (from, to)."""
    opened = open_store(store, settings)
    champion = opened.version(f"@{CHAMPION}")
    previous = champion.tags.get("replaced")
    if not previous:
        raise ProjectError(f"{named(store)}: there is no previous champion; see `history`.")
    load_model(str(Reference(store, previous)), settings)
    opened.set_alias(CHAMPION, previous)
    reason = f"rolled back to version {previous} at {now()}"
    # Whom it had replaced is forgotten: the next rollback goes on backwards, and never to and fro.
    opened.tag(champion.number, {"verdict": "rolled back", "reason": reason, "replaced": ""})
    return champion.number, previous


def history(settings: Settings, store: str = TRAINED) -> list[Version]:
    """Every version, newest first; none where there is no such store."""
    try:
        return open_store(store, settings).versions()
    except NoSuchStoreError:
        return []


def find(alias: str, settings: Settings, store: str = TRAINED) -> Version | None:
    """The version behind an alias, None if there is none."""
    return _bearer(open_store(store, settings), alias)


def set_challenger(version: str, settings: Settings) -> None:
    open_store(TRAINED, settings).set_alias(CHALLENGER, version)


def set_verdict(version: str, verdict: str, reason: str, settings: Settings) -> None:
    open_store(TRAINED, settings).tag(version, {"verdict": verdict, "reason": reason})


def require_fit(version: str, force: bool, settings: Settings, store: str = TRAINED) -> None:
    """Refuse a version that cannot be loaded, or that was rejected unless ``force`` is given."""
    load_model(str(Reference(store, version)), settings)
    tags = open_store(store, settings).version(version).tags
    if tags.get("verdict") == "rejected" and not force:
        raise ProjectError(f"version {version} was rejected: {tags['reason']}; or --force.")


def open_store(uri: str, settings: Settings) -> Store:
    """The store that the first part of a ``Reference`` names.

    :raises ProjectError: there is no such kind of store.
    """
    if uri.startswith("models:/"):
        from .mlflow_store import MLflowStore

        return MLflowStore(uri.removeprefix("models:/"), settings)
    folder = local_path(uri)
    if folder or is_cloud(uri):
        from .object_store import ObjectStore

        return ObjectStore(uri, folder, settings.models.allow_http)
    if not _has_dialect(uri):
        scheme = uri.partition("://")[0]
        raise ProjectError(f"{scheme}:// is no model store; docs/models.md lists what there is.")
    from .sql_store import SQLStore

    url, _, name = uri.partition("#")
    return SQLStore(url, name or PACKAGE)


def named(connection_string: str) -> str:
    """A connection string as messages and records may show it, without a password."""
    if connection_string.startswith("models:/") or is_cloud(connection_string):
        return connection_string
    return redacted(connection_string)


def typed(connection_string: str) -> str:
    """A connection string from the command line, where everybody could read a password."""
    if has_password(connection_string):
        raise ProjectError(
            f"{named(connection_string)}: whoever lists the processes of this machine sees the "
            "password: give it as the setting models.uri, by APP__MODELS__URI or a file of secrets."
        )
    return connection_string


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _has_dialect(uri: str) -> bool:
    """Whether SQLAlchemy knows the scheme of a URL."""
    from sqlalchemy.exc import NoSuchModuleError

    try:
        parsed(uri).get_dialect()
    except (ProjectError, NoSuchModuleError):
        return False
    except ImportError:
        return True  # only its driver is missing, which `connect` will say
    return True


def _bearer(store: Store, alias: str) -> Version | None:
    try:
        return store.version(f"@{alias}")
    except NoSuchModelError:
        return None


def _find(connection_string: str, settings: Settings) -> tuple[Store, Version]:
    reference = parse(connection_string)
    store = open_store(reference.store, settings)
    return store, store.version(reference.version or f"@{CHAMPION}")


@contextmanager
def _opened(connection_string: str, settings: Settings, expected: str | None = None):
    """A copy of a model's folder, and the verified model, whose metadata names its version."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, known = Path(temporary) / "model", {}
        source = model_folder(connection_string)
        if source:
            read_metadata(source)
            folder = source
        else:
            store, version = _find(connection_string, settings)
            store.fetch(version, folder)
            expected = expected or version.sha256 or None
            known = {"version": version.number}
            if alias := parse(connection_string).version.partition("@")[2]:
                known["alias"] = alias
        model = open_model(folder, expected, settings.models.allow_pickle)
        model.metadata.update(known)
        yield folder, model
