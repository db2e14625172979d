"""Effective settings: ``config/<ENVIRONMENT>.toml``, overridden by variables and mounted secrets.

``ENVIRONMENT`` picks the file (nonprod when unset); ``APP__TRAINING__FOLDS=3`` overrides ``folds``
of the section ``[training]``. An unknown key is an error. Relative paths are relative to the
project's folder.
"""

import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from .errors import ProjectError

PACKAGE = __package__
PREFIX = "APP__"
DOTENV = ".env"
# Docker, Podman and Swarm mount secrets here; Kubernetes can, too.
SECRETS = "/run/secrets"
SQLITE = re.compile(r"sqlite(\+\w+)?:///")
{%- if cookiecutter.deployment_flavor != "batch" %}
# The URL of public keys: https, or http on this machine, so that nobody can replace the keys.
OF_KEYS = re.compile(r"https://[^/@\[\]]+(/|$)|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|$)")
{%- endif %}


def root() -> Path:
    """The project's folder: the checkout if it has ``config/``, else the working directory."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "config").is_dir() else Path.cwd()


def absolute(uri: str, base: Path) -> str:
    """Make a path or SQLite URL absolute, and a ``file:`` URI a path; keep any other URI."""
    if found := SQLITE.match(uri):
        file, mark, what = uri.removeprefix(found[0]).partition("#")
        return f"{found[0]}{(base / file).resolve()}{mark}{what}"
    if uri.startswith("file:"):
        return url2pathname(urlsplit(uri).path)
    elsewhere = "://" in uri or uri.startswith(("models:/", "runs:/"))
    return uri if elsewhere else str((base / uri).resolve())


def portable(uri: str) -> str:
    """Remove the project's folder from a URI or path, so that it is the same in a moved project."""
    return uri.replace(f"{root()}/", "", 1)


Location = Annotated[
    str, AfterValidator(lambda uri: absolute(uri, root())), Field(validate_default=True)
]


def _is_database(uri: str) -> str:
    if "://" not in uri or uri in ("sqlite://", "sqlite:///:memory:"):
        raise ValueError("is no URL of a database that lasts, such as sqlite:///data/project.db")
    return uri


def _is_schedule(text: str) -> str:
    fields = text.split()
    try:
        if len(fields) not in (0, 5):
            raise CronSimError
        if fields:
            next(CronSim(text, datetime(2000, 1, 1)))
    except (CronSimError, StopIteration):
        raise ValueError(f"{text!r} is no cron expression such as 0 5 * * 1-5, or empty") from None
    return " ".join(fields)


def _is_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"{name!r} is no time zone such as UTC or Europe/Madrid") from None
    return name


Schedule = Annotated[str, AfterValidator(_is_schedule)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Models(Section):
    """Where models are registered, and which one is used."""

    uri: Location = f"models:/{PACKAGE}@champion"
    tracking_uri: Location = "sqlite:///mlflow.db"
    # `project:` is a folder of this project, which MLflow still finds if the project is moved.
    artifacts: str = "project:mlartifacts"
    allow_pickle: bool = False


class Training(Section):
    """How a model is selected and what it must reach before it may serve."""

    table: Location = "data/raw/example.csv"
    seed: int = 0
    holdout_share: float = Field(0.25, gt=0, lt=1)
    folds: int = Field(5, ge=2, le=20)
    # Combinations of hyper-parameters that are tried for each candidate.
    searches: int = Field(10, ge=1, le=1000)
    metric: str
    # How much better than the champion a challenger must be, in the metric's unit.
    margin: float = Field(0.0, ge=0)
    minimum: dict[str, float] = {}
    maximum: dict[str, float] = {}
    # Largest shares of rows on which the exported model may differ from the fitted estimator.
    max_label_disagreement: float = Field(0.005, ge=0, le=1)
    max_score_disagreement: float = Field(0.02, ge=0, le=1)
    # Folder for the lock and the stored split.
    work: Location = "data/processed"

    @model_validator(mode="after")
    def _metric_has_a_direction(self):
        if (self.metric in self.minimum) == (self.metric in self.maximum):
            raise ValueError(f"{self.metric} needs one threshold, in minimum or in maximum")
        return self
{%- if cookiecutter.deployment_flavor != "api" %}


class Batch(Section):
    """What a batch job reads and writes, and what it may use."""

    input: Location = "data/raw/example.csv"
    output: Location = "data/predictions"
    rejected: Location = "data/rejected"
    # For locks and unfinished runs.
    work: Location = "data/processed"
    max_rejected_share: float = Field(0.05, ge=0, le=1)
    engine: Literal["local", "spark"] = "local"
    workers: int = Field(0, ge=0, le=256, description="0: one for each core")
    raw: bool = Field(False, description="prepare() of data.py comes first")
    class_probabilities: int = Field(20, ge=0, le=1_000, description="of each, up to so many")
    part_rows: int = Field(1_000_000, ge=1_000, le=100_000_000)
    memory_mb: int = Field(256, ge=16, description="for the rows in flight, over all workers")
    # The Spark engine: its master, the time limit for its start, and options of Spark itself.
    master: str = Field("local[*]", min_length=1)
    master_seconds: int = Field(60, ge=1, le=3600)
    spark: dict[Annotated[str, Field(pattern=r"^spark\.")], str] = {}
{%- endif %}
{%- if cookiecutter.deployment_flavor != "batch" %}


class Api(Section):
    """How the API is served, and what each of its worker processes may use."""

    # Defaults taken from HOST and PORT, which hosting platforms set.
    host: str = Field(default_factory=lambda: os.environ.get("HOST") or "127.0.0.1")
    port: int = Field(
        default_factory=lambda: os.environ.get("PORT") or 8000,
        validate_default=True,
        ge=1,
        le=65535,
    )
    workers: int = Field(1, ge=0, le=256, description="processes; 0: one for each core")
    docs: bool = Field(True, description="/docs and /openapi.json")
    # Limits of a request; a larger or slower one is refused.
    max_body_bytes: int = Field(1_000_000, ge=1_000, le=1_000_000_000)
    max_header_bytes: int = Field(16_384, ge=8_192, le=1_000_000)
    max_rows: int = Field(10_000, ge=1, le=10_000_000)
    # Time limit for the head of a request, and for the next request of an idle connection.
    header_seconds: float = Field(30, ge=0.1, le=60)
    body_seconds: float = Field(10, gt=0, le=600)
    # Limits for all requests together: more connections wait, more requests get 503 at once.
    max_connections: int = Field(1_000, ge=1, le=100_000)
    max_in_flight: int = Field(64, ge=1, le=10_000)
    prediction_seconds: float = Field(10, gt=0, le=600)
    shutdown_seconds: int = Field(20, ge=1, le=1800)
    # The model: how often its alias is looked up, and where verified copies of it are kept.
    reload_seconds: float = Field(10, ge=0.1, le=86_400)
    models: Location = "data/served"
    start_from_copy: bool = Field(False, description="where the registry cannot be reached")
    access_log: bool = True


class Authentication(Section):
    """Who may ask for predictions: API keys, and JSON Web Tokens of an OpenID provider."""

    required: bool = False
    keys: Location = "secrets/api-keys.json"
    # Tokens are accepted if all three are given; jwks is the URL of the public keys.
    issuer: str = ""
    audience: str = ""
    jwks: str = ""

    @model_validator(mode="after")
    def _tokens_need_all_three(self):
        given = (self.issuer, self.audience, self.jwks)
        if any(given) and not all(given):
            raise ValueError("issuer, audience and jwks go together")
        if self.jwks and not OF_KEYS.match(self.jwks):
            raise ValueError("jwks must be an https URL, or an http URL of this machine")
        return self


class Keeping(Section):
    """Whether the API keeps its predictions in the database."""

    enabled: bool = True
    # Predictions wait here for the database; beyond the limit they are answered but not kept.
    spool: Location = "data/spool"
    spool_mb: int = Field(256, ge=1, le=1_000_000)


{%- endif %}


class Slo(Section):
    """The service level objectives, and when the service is nearly full."""
{%- if cookiecutter.deployment_flavor != "batch" %}

    # Share of the answers whose status is not 5xx.
    availability: float = Field(0.999, gt=0, le=0.99999)
    # Share of the answers within latency_seconds, an edge of the histogram in api/metrics.py.
    latency_share: float = Field(0.99, gt=0, le=0.99999)
    latency_seconds: float = Field(0.5, gt=0, le=10)
    # Share of the requests that can be answered at once; above it, an alert tells.
    saturation: float = Field(0.8, gt=0, lt=1)
{%- endif %}
{%- if cookiecutter.deployment_flavor != "api" %}

    # Share of the time in which predictions of the batch job are not older than
    # monitoring.max_age_hours.
    freshness: float = Field(0.99, gt=0, le=0.99999)
{%- endif %}

    # `monitor` must have looked within this time, otherwise an alert tells.
    monitored_hours: float = Field(48, ge=1, le=10_000)


class Monitoring(Section):
    """What `monitor` looks at, and when a finding becomes an alert."""

    # The table that `labels import` reads if it is given none.
    labels: str = ""
    # Days or hours of predictions.
    window: str = Field("7d", pattern=r"^[1-9][0-9]{0,4}[dh]$")
    # The page that `monitor` writes, here or in the cloud.
    report: Location = "data/reports/monitoring.html"
    # With fewer rows or labels, nothing is an alert.
    minimum_rows: int = Field(100, ge=1)
    minimum_labels: int = Field(50, ge=1)
    # Drift: largest p-value that is no accident, adjusted for the number of columns.
    significance: float = Field(0.01, gt=0, lt=1)
    max_age_hours: float = Field(48, gt=0, le=100_000, description="of the newest prediction")
    # How many times as many predictions as in earlier windows.
    min_volume_ratio: float = Field(0.5, ge=0)
    max_volume_ratio: float = Field(2.0, gt=0)
    max_duplicate_share: float = Field(0.01, ge=0, le=1, description="of the batch job's keys")
    # A Prometheus that has the rules of `make slo`: `status` shows its error budgets.
    prometheus: str = Field("", pattern=r"^$|^https?://[^/?#]+[^?#]*$")
    # Where `monitor` also writes gauges for Prometheus, such as /var/lib/node/model.prom.
    textfile: str = Field("", pattern=r"^$|\.prom$")


class Retraining(Section):
    """When `retrain --if-alert` trains without an alert, and when it does not in spite of one."""

    # A newest version of this age is trained again; 0: never because of its age.
    days: float = Field(7, ge=0)
    # Against loops: the time between two trainings, and their number within 24 hours.
    cooldown_hours: float = Field(12, ge=0)
    max_per_day: int = Field(2, ge=1, le=100)


class Pipelines(Section):
    """When the pipelines run: cron expressions, or empty text."""

    timezone: Annotated[str, AfterValidator(_is_time_zone)] = "UTC"
{%- if cookiecutter.deployment_flavor != "api" %}
    prediction: Schedule = "0 5 * * *"
{%- endif %}
    metrics: Schedule = "0 6 * * *"
    retraining: Schedule = "0 7 * * *"
    # Folder for locks.
    work: Location = "data/processed"


class Rollout(Section):
    """How `make deploy` replaces the old version by a new one."""

    memory_mb: int = Field(1024, ge=64, description="of a container")
{%- if cookiecutter.deployment_flavor != "api" %}
    # Batch: largest share of changed predictions; differences up to tolerance do not count.
    max_changed_share: float = Field(1.0, ge=0, le=1)
    tolerance: float = Field(0.0, ge=0)
{%- endif %}
{%- if cookiecutter.deployment_flavor != "batch" %}
    # API: its address on the machine; percentages of requests for a new version, step by step.
    publish: str = Field("127.0.0.1:8000", pattern=r"^[0-9.]+:[0-9]{1,5}$")
    canary: tuple[Annotated[int, Field(ge=1, le=99)], ...] = ()
    canary_seconds: float = Field(60, gt=0, le=86_400)
    canary_requests: int = Field(100, ge=1, le=100_000, description="fewer are made up for")
    # The load that `make verify` applies.
    load_seconds: float = Field(10, ge=0, le=600, description="0: no load")
    load_connections: int = Field(8, ge=1, le=256)
{%- endif %}


Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING"],
    BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
    )

    # Whether people rely on this environment, so that `settings check` is strict.
    production: bool = False
    log_level: Level = "INFO"
    # Database for what the project itself keeps, such as {{ {"batch": "what was scored", "api": "predictions", "both": "predictions and what was scored"}[cookiecutter.deployment_flavor] }}.
    database: Annotated[Location, BeforeValidator(_is_database)] = "sqlite:///data/project.db"
    models: Models = Models()
    training: Training
{%- if cookiecutter.deployment_flavor != "api" %}
    batch: Batch = Batch()
{%- endif %}
{%- if cookiecutter.deployment_flavor != "batch" %}
    # Created when settings are loaded, so that PORT is read then and not at import.
    api: Api = Field(default_factory=dict, validate_default=True)
    authentication: Authentication = Authentication()
    keeping: Keeping = Keeping()
{%- endif %}
    slo: Slo = Slo()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    pipelines: Pipelines = Pipelines()
    rollout: Rollout = Rollout()

    @classmethod
    def settings_customise_sources(cls, settings_cls, **_):
        return tuple(sources().values())


def load() -> Settings:
    """Load the settings of the environment that ENVIRONMENT names.

    :raises ProjectError: no such environment, an unknown key, or a value out of its range.
    """
    _refuse_unfit(root(), Path.cwd())
    try:
        return Settings()
    except ValidationError as error:
        found = "; ".join(map(_sentence, error.errors()))
        raise ProjectError(f"settings: {found}.") from None
    except SettingsError as error:
        section = str(error).partition('"')[2].partition('"')[0]
        raise ProjectError(f"settings: {section}: give lists and tables as JSON.") from None


def sources() -> dict[str, Any]:
    """The sources of settings, by name; the first source that has a setting wins.

    :raises ProjectError: no such environment, or its file is not valid TOML.
    """
    dotenv, file = read_dotenv(), _config()
    secrets = root() / (os.environ.get("SECRETS_DIR") or SECRETS)
    try:
        toml = TomlConfigSettingsSource(Settings, file)
    except ValueError as error:
        raise ProjectError(f"{file}: {error}.") from None
    _refuse_unknown(os.environ)
    return {
        "environment": EnvSettingsSource(Settings),
        ".env": Variables(Settings, dotenv),
        str(secrets): Variables(Settings, _mounted(secrets)),
        f"config/{file.name}": toml,
    }


class Variables(EnvSettingsSource):
    """Variables that come from ``.env`` or mounted secrets."""

    def __init__(self, settings: type[BaseSettings], given: dict[str, str]) -> None:
        self.given = {name.lower(): value for name, value in given.items()}
        super().__init__(settings)

    def _load_env_vars(self) -> dict[str, str]:
        return self.given


def _mounted(folder: Path) -> dict[str, str]:
    """The settings in the files of a folder that are named like variables; others are ignored."""
    found, file = {}, folder
    try:
        there = [each.name for each in folder.iterdir()]
        _refuse_unknown(there, folder)
        for file in map(folder.joinpath, there):
            if file.name.upper().startswith(PREFIX):
                found[file.name] = file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        if os.environ.get("SECRETS_DIR") or file != folder:
            raise ProjectError(f"{file} cannot be read: {error}.") from None
    if empty := [name for name, text in found.items() if not text]:
        raise ProjectError(f"{folder / empty[0]} is empty.")
    return found


def read_dotenv() -> dict[str, str]:
    """The settings in ``.env``; other variables, such as API_KEY, go to the environment if unset.

    :raises ProjectError: it cannot be read, or a line would have no effect.
    """
    file = root() / DOTENV
    try:
        content = file.read_text("utf-8-sig") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{file} cannot be read: {error}.") from None
    for line in parse_stream(StringIO(content)):
        if line.error or (line.key and line.value is None):
            where = f"{file}, near line {line.original.line}"
            raise ProjectError(f"{where}: write NAME=value, or a # in front.")
    values = dotenv_values(stream=StringIO(content), interpolate=False)  # $ stays as it is
    _refuse_unknown(values, file)
    found = {name: text for name, text in values.items() if text}
    ours = {name: text for name, text in found.items() if name.upper().startswith(PREFIX)}
    for name in found.keys() - ours.keys():
        os.environ[name] = os.environ.get(name) or found[name]
    return ours


def origin(path: tuple, among: dict[str, Any]) -> str:
    """The source, or "default", of the setting at a path such as ``("training", "folds")``."""
    for name, source in among.items():
        found = source()
        for key in path:
            if isinstance(found, dict):
                found = found.get(key)
        if found is not None:
            return name
    return "default"


def names() -> list[str]:
    """Every setting's key: ``log_level``, ``training.folds``, …"""
    found = []
    for name, field in Settings.model_fields.items():
        keys = getattr(field.annotation, "model_fields", None)
        found += [f"{name}.{key}" for key in keys] if keys else [name]
    return found


def variable(key: str) -> str:
    """The variable of a setting: APP__TRAINING__FOLDS for ``training.folds``."""
    return PREFIX + key.replace(".", "__").upper()


def override(given: Mapping[str, str | None]) -> None:
    """Set settings, by key, for this process and for the processes that it starts."""
    new = {variable(key): value for key, value in given.items() if value}
    for name in [name for name in os.environ if name.upper() in new]:
        del os.environ[name]
    os.environ.update(new)


def environment() -> str:
    """The name of the environment, after ``load`` also if ``.env`` gives it."""
    return os.environ.get("ENVIRONMENT") or "nonprod"


def _config() -> Path:
    file = root() / "config" / f"{environment()}.toml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.toml"))) or "none"
        raise ProjectError(f"ENVIRONMENT={environment()}: there is no {file}; known are: {known}.")
    return file


def _refuse_unfit(project: Path, here: Path) -> None:
    """Refuse a folder that URLs cannot name, and the virtual environment of another copy."""
    if set("?%#") & set(str(project)):
        raise ProjectError(
            f"{project}: URLs cannot name this folder; rename it without ?, % and #."
        )
    code, ours = Path(__file__).resolve().parent, (here / "src" / PACKAGE).resolve()
    if ours.is_dir() and ours != code and here.resolve() != project:
        raise ProjectError(f"this environment runs the code in {code}: set up one for {here}.")


def _refuse_unknown(given: Iterable[str], place: Path | None = None) -> None:
    """Refuse variables of this project that have no effect; pydantic checks the keys of a section.

    :param given: names of variables.
    :param place: the project's ``.env`` or a folder of secrets; None for the environment, where
        most variables belong to other programs.
    """
    known, seen = list(map(variable, names())), set()
    for name in map(str.upper, given):
        ours = name.startswith(PREFIX)
        section, mark, key = name.removeprefix(PREFIX).partition("__")
        field = Settings.model_fields.get(section.lower())
        sections = hasattr(getattr(field, "annotation", None), "model_fields")
        if ours and (field is None or (key and not sections)):
            raise ProjectError(f"{name}: there is no such setting{_like(name, known)}.")
        if ours and name in seen:
            raise ProjectError(f"{name} is given twice, in capitals and not.")
        meant = PREFIX + name in known or (place and sections)
        if meant and not ours and (mark or (place and place.name == DOTENV)):
            raise ProjectError(f"{name} has no effect: the variable is {PREFIX}{name}.")
        seen.add(name)


def _like(name: str, known: list[str]) -> str:
    return "".join(f" (is {each} meant?)" for each in get_close_matches(name, known, 1))


def _sentence(error: dict[str, Any]) -> str:
    key, problem = ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        problem = f"there is no such setting{_like(key, names())}"
    return f"{key} ({origin(error['loc'], sources())}): {problem}"
