"""Effective settings: ``config/<ENVIRONMENT>.toml``, overridden by environment variables.

``ENVIRONMENT`` picks the file (nonprod when unset); ``TRAINING__FOLDS=3`` overrides ``folds`` of
the section ``[training]``; ``environment.py`` has the other places of variables and secrets. An
unknown key is an error. Relative paths are relative to the project's folder.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from . import environment
from .errors import ProjectError

PACKAGE = __package__


def root() -> Path:
    """The project's folder: the one with ``config/``, of the checkout or the working directory."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "config").is_dir() else Path.cwd()


def absolute(uri: str, base: Path) -> str:
    """A path, a ``file:`` URI or a SQLite URL that no longer depends on the working directory."""
    if uri.startswith("sqlite:///"):
        file, mark, what = uri.removeprefix("sqlite:///").partition("#")
        return f"sqlite:///{base / file}{mark}{what}"
    if uri.startswith("file:"):
        return url2pathname(urlsplit(uri).path)
    return uri if "://" in uri or uri.startswith("models:/") else str((base / uri).resolve())


Location = Annotated[
    str, AfterValidator(lambda uri: absolute(uri, root())), Field(validate_default=True)
]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Models(Section):
    """Where models are registered, and which one is used."""

    uri: Location = f"models:/{PACKAGE}@champion"
    tracking_uri: Location = "sqlite:///mlflow.db"
    # `project:` is a folder of this project; unlike a path it survives a moved or copied project.
    artifacts: str = "project:mlartifacts"
    allow_pickle: bool = False
    allow_http: bool = Field(False, description="cloud storage of your own, without TLS")


class Training(Section):
    """How a model is selected and what it must reach before it may serve."""

    seed: int = 0
    holdout_share: float = Field(0.25, gt=0, lt=1)
    folds: int = Field(5, ge=2, le=20)
    # Hyper-parameter settings that are tried for each candidate.
    searches: int = Field(10, ge=1, le=1000)
    metric: str
    # How much better than the champion a challenger must be, in the metric's unit.
    margin: float = Field(0.0, ge=0)
    minimum: dict[str, float] = {}
    maximum: dict[str, float] = {}
    # Shares of rows on which the exported model may answer otherwise than the fitted estimator.
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
    """Where a batch job writes and what it may use."""

    input: Location = "data/raw/example.csv"
    output: Location = "data/predictions"
    rejected: Location = "data/rejected"
    # For locks and unfinished runs.
    work: Location = "data/processed"
    database: Location = "sqlite:///data/predictions/ledger.db"
    max_rejected_share: float = Field(0.05, ge=0, le=1)
    engine: Literal["local", "spark"] = "local"
    workers: int = Field(0, ge=0, le=256, description="0: one for each core")
    part_rows: int = Field(1_000_000, ge=1_000, le=100_000_000)
    memory_mb: int = Field(256, ge=16, description="for the rows in flight, over all workers")
    # The Spark engine: its master, how long that may take to start, and options of Spark's own.
    master: str = Field("local[*]", min_length=1)
    master_seconds: int = Field(60, ge=1, le=3600)
    spark: dict[Annotated[str, Field(pattern=r"^spark\.")], str] = {}
{%- endif %}
{%- if cookiecutter.deployment_flavor != "batch" %}


class Api(Section):
    """How the API is served, and what each of its worker processes may use."""

    # Before these defaults come HOST and PORT, which hosting platforms set.
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    workers: int = Field(1, ge=0, le=256, description="processes; 0: one for each core")
    docs: bool = Field(True, description="/docs and /openapi.json")
    # A client's request: what is larger or slower is refused.
    max_body_bytes: int = Field(1_000_000, ge=1_000, le=1_000_000_000)
    max_header_bytes: int = Field(16_384, ge=1_024, le=1_000_000)
    max_rows: int = Field(10_000, ge=1, le=10_000_000)
    header_seconds: float = Field(5, gt=0, le=600)
    body_seconds: float = Field(10, gt=0, le=600)
    keep_alive_seconds: float = Field(30, gt=0, le=3600)
    requests_per_second: float = Field(0, ge=0, description="per client, over all workers; 0: any")
    # All requests together: what is beyond is answered with 503 at once.
    max_connections: int = Field(1_000, ge=1, le=100_000)
    max_in_flight: int = Field(64, ge=1, le=10_000)
    prediction_seconds: float = Field(10, gt=0, le=600)
    shutdown_seconds: int = Field(20, ge=1, le=3600)
    # The model: how often its alias is looked up, and where verified copies of it are kept.
    reload_seconds: float = Field(10, ge=0.1, le=86_400)
    models: Location = "data/served"
    start_from_copy: bool = Field(False, description="where the registry cannot be reached")
    # What is told of it all.
    metrics_port: int = Field(0, ge=0, le=65535, description="0: /metrics of the API itself")
    access_log: bool = True


class Authentication(Section):
    """Who may ask for predictions: API keys, and JSON Web Tokens of an OpenID provider."""

    required: bool = False
    keys: Location = "secrets/api-keys.json"
    # Tokens are accepted where all three are given; jwks is the URL or the file of the public keys.
    issuer: str = ""
    audience: str = ""
    jwks: str = ""

    @model_validator(mode="after")
    def _tokens_need_all_three(self):
        given = (self.issuer, self.audience, self.jwks)
        if any(given) and not all(given):
            raise ValueError("issuer, audience and jwks go together")
        return self


class Keeping(Section):
    """Whether and where the API keeps its predictions."""

    enabled: bool = True
    database: Location = "sqlite:///data/predictions/predictions.db"
    # Where they wait for the database; beyond the limit they are answered but not kept.
    spool: Location = "data/spool"
    spool_mb: int = Field(256, ge=1, le=1_000_000)


class Slo(Section):
    """What clients of the API are promised."""

    # Share of the answers that are none of 5xx.
    availability: float = Field(0.999, gt=0, lt=1)
    # Share of the answers within so many seconds, an edge of the histogram in api/metrics.py.
    latency_share: float = Field(0.99, gt=0, lt=1)
    latency_seconds: float = Field(0.5, gt=0, le=10)
{%- endif %}


class Rollout(Section):
    """How `make deploy` puts a new version in the place of the old one."""

    memory_mb: int = Field(1024, ge=64, description="of a container")
{%- if cookiecutter.deployment_flavor != "api" %}
    # Batch: how many predictions may change, and by how much a number may before it counts.
    max_changed_share: float = Field(1.0, ge=0, le=1)
    tolerance: float = Field(0.0, ge=0)
{%- endif %}
{%- if cookiecutter.deployment_flavor != "batch" %}
    # API: its address on the machine, and the shares in percent that a new version gets before all.
    publish: str = Field("127.0.0.1:8000", pattern=r"^[0-9.]+:[0-9]{1,5}$")
    canary: tuple[Annotated[int, Field(ge=1, le=99)], ...] = ()
    canary_seconds: float = Field(60, gt=0, le=86_400)
    canary_requests: int = Field(100, ge=1, le=100_000, description="fewer are made up for")
    # Of `make verify`.
    load_seconds: float = Field(10, ge=0, le=600, description="0: no load")
    load_connections: int = Field(8, ge=1, le=256)
{%- endif %}


# Variables that count where a setting is given nowhere else.
{%- if cookiecutter.deployment_flavor != "batch" %}
FALLBACKS = {("api", "host"): "HOST", ("api", "port"): "PORT"}
{%- else %}
FALLBACKS: dict[tuple[str, str], str] = {}
{%- endif %}
Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING"],
    BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_nested_delimiter="__", env_ignore_empty=True
    )

    # Whether people rely on this environment: `settings check` judges it strictly.
    production: bool = False
    log_level: Level = "INFO"
    models: Models = Models()
    training: Training
{%- if cookiecutter.deployment_flavor != "api" %}
    batch: Batch = Batch()
{%- endif %}
{%- if cookiecutter.deployment_flavor != "batch" %}
    api: Api = Api()
    authentication: Authentication = Authentication()
    keeping: Keeping = Keeping()
    slo: Slo = Slo()
{%- endif %}
    rollout: Rollout = Rollout()


def _refuse_unfit(project: Path, here: Path) -> None:
    """Refuse a folder that URLs cannot name, and the environment of another copy of the project."""
    if {"?", "%"} & set(str(project)):
        raise ProjectError(f"{project}: URLs cannot name this folder; rename it without ? and %.")
    code, ours = Path(__file__).resolve().parent, (here / "src" / PACKAGE).resolve()
    if ours.is_dir() and ours != code and here.resolve() != project:
        raise ProjectError(f"this environment runs the code in {code}: set up one for {here}.")


def load() -> Settings:
    """The settings of the environment named by ENVIRONMENT.

    :raises ProjectError: no such environment, an unknown key, or a value out of its range.
    """
    return read()[0]


def read() -> tuple[Settings, list]:
    """The settings, and the sources they came from, each with ``place(path)``; the first counts."""
    _refuse_unfit(root(), Path.cwd())
    sources = environment.sources(Settings, root(), FALLBACKS)

    class Found(Settings):
        @classmethod
        def settings_customise_sources(cls, settings_cls, **_):
            return tuple(sources)

    try:
        return Found(), sources
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, each['loc']))} ({origin(each['loc'], sources)}): {each['msg']}"
            for each in error.errors()
        )
        raise ProjectError(f"settings: {found}.") from None
    except (SettingsError, ValueError) as error:
        raise ProjectError(f"settings: {error}.") from None


def origin(path: tuple, sources: list) -> str:
    """Where the setting at a path such as ``("training", "folds")`` came from."""
    for source in sources:
        found = source()
        for depth, key in enumerate(path, 1):
            if not isinstance(found, dict) or key not in found:
                break
            found = found[key]
            if depth == len(path):
                return source.place(path)
    return "default"
