"""MLflow's registry: versions of models, their aliases, and the runs that made them.

It imports mlflow, which only ``train`` and ``models:/`` or ``runs:/`` need.
"""

import re
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ProjectError, brief
from ..settings import PACKAGE, Settings
from ..tables.databases import exists, redacted
from .artifact import METADATA, open_model, read_metadata, self_test
from .mlflow_client import client, reached, require_mlflow
from .register import Record, register

CHAMPION, CHALLENGER = "champion", "challenger"
NAMED = re.compile(r"models:/([^/@]+)(?:@([A-Za-z0-9][A-Za-z0-9_.-]{0,99})|/(\d+))?")
# How many versions are listed, newest first; enough for one a day over years.
MOST_LISTED = 1_000
# MLflow's error codes for a model, a version or an alias that does not exist.
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class Version:
    """A version of a model; ``sha256`` is of its serving artifact, ``created`` in UTC.

    ``aliases`` and ``tags`` may change later. Only ``history`` fills ``metrics``.
    """

    number: str
    sha256: str
    created: datetime
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def history(settings: Settings, name: str = PACKAGE) -> list[Version]:
    """The versions of a model, newest first; empty if there is no registry yet."""
    if not exists(settings.models.tracking_uri):
        return []
    tracking = client(settings)
    with reached(settings):
        order = ["version_number DESC"]
        found = tracking.search_model_versions(f"name = '{name}'", MOST_LISTED, order)
        # A search does not return the aliases; the registered model does.
        aliases = tracking.get_registered_model(name).aliases if found else {}
        return [
            _told(
                each,
                [alias for alias, number in aliases.items() if str(number) == str(each.version)],
                tracking.get_run(each.run_id).data.metrics if each.run_id else {},
            )
            for each in found
        ]


def find(alias: str, settings: Settings, name: str = PACKAGE) -> Version | None:
    """The version behind an alias, None if there is none."""
    return _look_up(f"models:/{name}@{alias}", settings)


def version(uri: str, settings: Settings) -> Version:
    """The version that ``models:/NAME@ALIAS``, ``models:/NAME/3`` or ``models:/NAME`` names.

    :raises ProjectError: there is none.
    """
    if found := _look_up(uri, settings):
        return found
    raise ProjectError(
        f"{uri}: there is no such model in the registry {redacted(settings.models.tracking_uri)}; "
        "`history` lists what there is, `train` makes one."
    )


def _look_up(uri: str, settings: Settings) -> Version | None:
    require_mlflow()
    from mlflow.exceptions import MlflowException

    named = NAMED.fullmatch(uri)
    if not named or not exists(settings.models.tracking_uri):
        return None
    name, alias, number = named.groups()
    alias = alias or (None if number else CHAMPION)
    tracking = client(settings)
    with reached(settings):
        try:
            if number:
                return _told(tracking.get_model_version(name, number))
            return _told(tracking.get_model_version_by_alias(name, alias), [alias])
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise


def _told(found, aliases=(), metrics: dict[str, float] | None = None) -> Version:
    """MLflow's record of a version as a ``Version``."""
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    tags = dict(found.tags)
    number, sha256 = str(found.version), tags.get("sha256", "")
    return Version(number, sha256, created, tuple(sorted(aliases)), tags, metrics or {})


def known(uri: str, settings: Settings) -> dict:
    """What the registry records about a model: its digest, version and alias."""
    if uri.startswith("runs:/"):
        require_mlflow()
        if not exists(settings.models.tracking_uri):
            where = redacted(settings.models.tracking_uri)
            raise ProjectError(f"{uri}: there is no registry {where} yet; `train` makes one.")
        tracking = client(settings)
        with reached(settings):
            tags = tracking.get_run(uri.split("/")[1]).data.tags
        if "sha256" not in tags:
            raise ProjectError(f"{uri}: this run has logged no model of this project.")
        return {"sha256": tags["sha256"]}
    found = version(uri, settings)
    if not found.sha256:
        raise ProjectError(f"{uri} was registered by something else than this project.")
    alias = {"alias": found.aliases[0]} if found.aliases else {}
    return {"sha256": found.sha256, "version": found.number} | alias


def fetch(uri: str, folder: Path, settings: Settings) -> dict:
    """Write the files of a model to ``folder``; returns what ``known`` returns.

    :raises ProjectError: there is no such model, or its files cannot be read.
    """
    of_it, tracking = known(uri, settings), client(settings)
    import mlflow

    try:
        source = uri
        if "version" in of_it:
            name = NAMED.fullmatch(uri)[1]
            source = tracking.get_model_version_download_uri(name, of_it["version"])
        with tempfile.TemporaryDirectory() as temporary:
            # Without the code, which is for users of MLflow who do not have this project.
            artifacts = f"{source.rstrip('/')}/artifacts"
            downloaded = mlflow.artifacts.download_artifacts(artifacts, dst_path=temporary)
            model = next(path.parent for path in Path(downloaded).rglob(METADATA))
            shutil.copytree(model, folder, dirs_exist_ok=True)
    except Exception as error:  # from any library that reads the storage
        if not _says_gone(error):
            raise ProjectError(f"{uri}: its files cannot be had: {brief(error)}.") from error
        advice = "roll back or train again" if "version" in of_it else "say runs:/RUN/model"
        raise ProjectError(f"{uri}: its files are gone; {advice}.") from None
    return of_it


def receive(folder: Path, target: str, came_from: str, settings: Settings) -> str:
    """Register the model in ``folder`` as the next version, unless the alias of ``target`` names it
    already; the alias is set after the version passes its self-test.

    :raises ProjectError: ``target`` names a version number, which only the registry assigns.
    """
    named = NAMED.fullmatch(target)
    if not named or named[3]:
        raise ProjectError(f"{target}: give models:/NAME or models:/NAME@ALIAS to copy to.")
    name, alias, metadata = named[1], named[2], read_metadata(folder)
    bearer = find(alias, settings, name) if alias else None
    if bearer and bearer.sha256 == metadata["sha256"] and _is_whole(name, bearer, settings):
        return f"models:/{name}/{bearer.number}"
    record = Record(metrics=metadata.get("metrics", {}))
    number = register(folder, record, settings, name, {"source": came_from})
    _prove(f"models:/{name}/{number}", settings)
    if alias == CHAMPION:
        promote(number, came_from, settings, name)
    elif alias:
        _set_alias(name, alias, number, settings)
    return f"models:/{name}/{number}"


def _is_whole(name: str, bearer: Version, settings: Settings) -> bool:
    try:
        _prove(f"models:/{name}/{bearer.number}", settings)
    except ProjectError:  # a damaged model is copied again
        return False
    return True


def _prove(uri: str, settings: Settings) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        sha256 = fetch(uri, Path(temporary), settings).get("sha256")
        self_test(open_model(Path(temporary), sha256, settings.models.allow_pickle, uri))


def promote(number: str, reason: str, settings: Settings, name: str = PACKAGE) -> None:
    """Make a version the champion; a tag names the version it replaces, for ``rollback``."""
    chosen = version(f"models:/{name}/{number}", settings)
    champion, challenger = (find(alias, settings, name) for alias in (CHAMPION, CHALLENGER))
    if champion and champion.number == chosen.number:
        raise ProjectError(f"version {number} is the champion already.")
    tags = {"verdict": "promoted", "reason": reason, "promoted_at": now()}
    if champion:
        tags["replaced"] = champion.number
    _tag(name, chosen.number, tags, settings)
    _set_alias(name, CHAMPION, chosen.number, settings)
    if challenger and challenger.number == chosen.number:
        with reached(settings):
            client(settings).delete_registered_model_alias(name, CHALLENGER)


def rollback(settings: Settings, name: str = PACKAGE) -> tuple[str, str]:
    """Put the previous champion back; returns the versions (from, to)."""
    champion = version(f"models:/{name}@{CHAMPION}", settings)
    previous = champion.tags.get("replaced")
    if not previous:
        raise ProjectError(f"models:/{name}: there is no previous champion; see `history`.")
    _prove(f"models:/{name}/{previous}", settings)
    _set_alias(name, CHAMPION, previous, settings)
    reason = f"{champion.tags.get('reason', '')}; rolled back to version {previous} at {now()}"
    # Clears the previous champion, so that rollbacks never alternate between two versions.
    tags = {"verdict": "rolled back", "reason": reason, "replaced": ""}
    _tag(name, champion.number, tags, settings)
    return champion.number, previous


def set_challenger(number: str, settings: Settings) -> None:
    _set_alias(PACKAGE, CHALLENGER, number, settings)


def set_verdict(number: str, verdict: str, reason: str, settings: Settings) -> None:
    _tag(PACKAGE, number, {"verdict": verdict, "reason": reason}, settings)


def require_fit(number: str, force: bool, settings: Settings, name: str = PACKAGE) -> None:
    """Refuse a version that cannot be loaded, or that was rejected unless ``force`` is given."""
    tags = version(f"models:/{name}/{number}", settings).tags
    _prove(f"models:/{name}/{number}", settings)
    if tags.get("verdict") == "rejected" and not force:
        raise ProjectError(f"version {number} was rejected: {tags['reason']}; or --force.")


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _set_alias(name: str, alias: str, number: str, settings: Settings) -> None:
    with reached(settings):
        client(settings).set_registered_model_alias(name, alias, number)


def _tag(name: str, number: str, tags: dict[str, str], settings: Settings) -> None:
    with reached(settings):
        for key, value in tags.items():
            client(settings).set_model_version_tag(name, number, key, value)


def _says_gone(error: Exception) -> bool:
    """Whether an artifact storage answers that the files do not exist."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in ABSENT
    answer = getattr(error, "response", None)  # from a server
    if answer is not None:
        return getattr(answer, "status_code", None) == 404
    # MLflow's own OSError for a missing folder has no errno.
    return isinstance(error, StopIteration | FileNotFoundError) or (
        type(error) is OSError and error.errno is None
    )
