"""The commands ``settings``, ``settings check`` and ``migrate``."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel

from . import settings
from .errors import MASK, SECRET_NAME, hidden
from .settings import Settings, origin
from .tables import migrate

ALONE = "is a SQLite file, which one machine alone can use: name a PostgreSQL"


def _sqlite(value: str) -> bool:
    return value.startswith(("sqlite:", "sqlite+"))


def _in_project(value: str) -> bool:
    folder = settings.absolute(value.removeprefix("project:"), settings.root())
    return "://" not in folder and Path(folder).is_relative_to(settings.root())


def _example(value: str) -> bool:
    return Path(value) == settings.root() / "data/raw/example.csv"


# Setting, a test for values that production refuses, and the reason with advice.
RULES: tuple[tuple[str, Callable, str], ...] = (
    ("database", _sqlite, ALONE),
    ("models.uri", _sqlite, ALONE),
    ("log_level", lambda level: level == "DEBUG", "may write data to the log: choose INFO"),
    ("models.tracking_uri", _sqlite, f"{ALONE}, or a tracking server"),
    (
        "models.artifacts",
        _in_project,
        "is a folder of this project, where other machines find no model: name a bucket, or a "
        "folder that they share",
    ),
    (
        "models.allow_pickle",
        bool,
        "lets a model's file run any code: set it to false, and train a model that can be exported",
    ),
    ("batch.input", _example, "is the example: name your own table"),
    ("batch.input", _sqlite, ALONE),
    ("batch.output", _sqlite, ALONE),
    (
        "authentication.required",
        lambda required: not required,
        "lets anybody ask for predictions: set it to true, and make keys with `api-key create`",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    if parser.prog.split()[-1] == "migrate":
        add("--check", action="store_true", help="change nothing; 1 if they are behind")
    else:
        add("action", nargs="?", choices=["check"], help="refuse what would not do in production")


def run(arguments: argparse.Namespace) -> int:
    config = settings.load()
    if arguments.command == "migrate":
        return migrate_database(config, arguments.check)
    return check(config) if arguments.action == "check" else show(config)


def migrate_database(config: Settings, only_check: bool) -> int:
    """Upgrade the project's tables to the newest version, or only check their version."""
    from .contract import CONTRACT  # here, so that `settings` works without it

    if only_check:
        return 0 if migrate.check(config.database, CONTRACT.target) else 1
    migrate.migrate(config.database, CONTRACT.target)
    return 0


def show(config: Settings) -> int:
    """Print every setting, its value and its source."""
    among = settings.sources()
    rows = [
        (".".join(path), masked(path, value), origin(path, among)) for path, value in leaves(config)
    ]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]]
    for key, value, where in rows:
        print(f"{key:{widths[0]}}  {value:{widths[1]}}  {where}")
    return 0


def check(config: Settings) -> int:
    """Print every finding; returns 1 if there is one."""
    among = settings.sources()
    found = [*_secrets(config, among), *(_unfit(config, among) if config.production else ())]
    print(*found, sep="\n", end="\n" if found else "")
    if not config.production:
        print("This is no production (production = false): what only that needs was not checked.")
    if not found:
        print("Nothing was found.")
    return 1 if found else 0


def _secrets(config: Settings, among: dict) -> Iterator[str]:
    for path, value in leaves(config):
        where, key = origin(path, among), ".".join(path)
        shown = masked(path, value)
        secret = value and isinstance(value, str) and shown != settings.portable(value)
        if secret and where.startswith("config/"):
            yield (
                f"{key} has a secret in {where}, which is committed: take it out, and give the "
                f"setting as {settings.variable(key)}, a variable or a mounted secret."
            )


def _unfit(config: Settings, among: dict) -> Iterator[str]:
    values = {".".join(path): value for path, value in leaves(config)}
    registry = config.models.uri.startswith("models:/")
    unused = () if registry else ("models.tracking_uri", "models.artifacts")
    for key, refused, problem in RULES:
        if key in values and key not in unused and refused(values[key]):
            path = tuple(key.split("."))
            yield f"{key} = {masked(path, values[key])} ({origin(path, among)}) {problem}."


def leaves(config: BaseModel, above: tuple = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Path and value of every setting; a table that is not empty yields its entries instead."""
    for name in type(config).model_fields:
        path, value = (*above, name), getattr(config, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, path)
        elif isinstance(value, dict) and value:
            yield from (((*path, str(key)), each) for key, each in value.items())
        else:
            yield path, value


def masked(path: tuple[str, ...], value: object) -> str:
    """A value as text for display: paths as in config/, possible secrets masked."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text and SECRET_NAME.search(path[-1]):
        return MASK
    return settings.portable(hidden(text)) or '""'
