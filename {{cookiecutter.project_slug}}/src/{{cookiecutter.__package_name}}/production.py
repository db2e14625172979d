"""``settings``, ``settings check`` and ``migrate``: what would not work, above all in production.

What must hold everywhere is checked everywhere: folders, databases, no secrets in config/. What is
good for a laptop only is refused where ``production = true``. Each finding is a sentence: which
setting, from where, what is wrong and what to do.
"""

import argparse
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from . import settings
from .effective import leaves, masked, place, show
from .errors import brief
from .models.stores import parse
from .settings import Settings, origin
from .tables import migrate
from .tables.databases import connect, is_database, local_path, redacted, sqlite_file

# For all databases and servers together; MLflow takes some of them to begin with.
SECONDS = 20
ALONE = "is a SQLite file, which one machine alone can use: name a PostgreSQL"


def _sqlite(value: str) -> bool:
    return value.startswith("sqlite:")


def _in_project(value: str) -> bool:
    folder = settings.root() / value.removeprefix("project:")
    return "://" not in value and folder.is_relative_to(settings.root())


def _example(value: str) -> bool:
    return Path(value) == settings.root() / "data/raw/example.csv"


# Setting, what is refused in production, and why and what instead.
RULES: tuple[tuple[str, Callable, str], ...] = (
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
    ("batch.database", _sqlite, ALONE),
    ("batch.input", _example, "is the example: name your own table"),
    ("batch.input", _sqlite, ALONE),
    ("batch.output", _sqlite, ALONE),
    (
        "authentication.required",
        lambda required: not required,
        "lets anybody ask for predictions: set it to true, and make keys with `api-key create`",
    ),
    ("keeping.database", _sqlite, ALONE),
)
# What is written to, and what must be there.
FOLDERS = (
    "training.work",
    "batch.output",
    "batch.rejected",
    "batch.work",
    "api.models",
    "keeping.spool",
)
PRESENT = ("models.uri", "batch.input", "authentication.jwks")
SERVERS = (
    "models.uri",
    "models.tracking_uri",
    "batch.input",
    "batch.output",
    "batch.database",
    "keeping.database",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    if parser.prog.split()[-1] == "migrate":
        add("--check", action="store_true", help="change nothing; 1 if one is behind")
    else:
        add("action", nargs="?", choices=["check"], help="refuse what would not work in production")


def run(arguments: argparse.Namespace) -> int:
    if arguments.command == "migrate":
        return migrate_all(settings.load(), arguments.check)
    config, sources = settings.read()
    if arguments.action == "check":
        return report(config, sources)
    show(config, sources)
    return 0


def migrate_all(config: Settings, only_check: bool) -> int:
    """Bring every database that a setting names to the newest version, or only look."""
    from .contract import CONTRACT  # here, so that `settings` works without it

    databases = migrate.configured(config)
    if not databases:
        print("No setting names a database.")
    current = [
        migrate.check(url, places) if only_check else migrate.migrate(url, places, CONTRACT.target)
        for url, places in databases.items()
    ]
    return 0 if all(current) else 1


def report(config: Settings, sources: list) -> int:
    """Print every finding; returns 1 if there is one."""
    values = _used(config)
    found = [*_secrets(config, sources)]
    for key, problem in _problems(config, values):
        path = tuple(key.split("."))
        shown = masked(path, values[key])
        found.append(f"{key} = {shown} ({place(origin(path, sources))}) {problem}.")
    print(*found, sep="\n", end="\n" if found else "")
    if not config.production:
        print("This is no production (production = false): what only that needs was not checked.")
    if not found:
        print("Nothing was found.")
    return 1 if found else 0


def _used(config: Settings) -> dict[str, object]:
    """The settings that have an effect, by key."""
    values = {".".join(path): value for path, value in leaves(config)}
    registry = str(values["models.uri"]).startswith("models:/")
    unused = () if registry else ("models.tracking_uri", "models.artifacts")
    if not values.get("keeping.enabled", True):
        unused += ("keeping.database", "keeping.spool")
    return {key: value for key, value in values.items() if key not in unused}


def _problems(config: Settings, values: dict) -> Iterator[tuple[str, str]]:
    """Key and problem, to be the middle of a sentence."""
    if config.production:
        for key, refused, problem in RULES:
            if key in values and refused(values[key]):
                yield key, problem
    for key in FOLDERS:
        if (value := values.get(key)) and (path := local_path(value)) and not _can_be_made(path):
            yield key, "can be neither made nor written to: name another, or give this user rights"
    for key in PRESENT:
        if (named := _named(key, values.get(key))) and not named.exists():
            yield key, "does not exist: put it there, or name another"
    yield from _unreachable(config, values)


def _named(key: str, value: str | None) -> Path | None:
    """The path that a setting names, without the version behind a store of models."""
    if not value or value.startswith("models:/"):
        return None
    return local_path(parse(value).store if key == "models.uri" else value)


def _secrets(config: Settings, sources: list) -> Iterator[str]:
    for path, value in leaves(config):
        where, name = origin(path, sources), "__".join(path).upper()
        secret = value and isinstance(value, str) and masked(path, value) != place(value)
        if secret and where.startswith("config/"):
            yield (
                f"{'.'.join(path)} has a secret in {where}, which is committed: take it out, and "
                f"give the setting as {name}, {name}_FILE or a mounted secret."
            )


def _can_be_made(path: Path) -> bool:
    """Whether a folder, or a file, is there to be written, or can be."""
    there = next(each for each in (path, *path.parents) if each.exists())
    return os.access(there, os.W_OK) and (there == path or there.is_dir())


def _unreachable(config: Settings, values: dict) -> Iterator[tuple[str, str]]:
    """Databases and servers that do not answer, or whose tables are of another version."""
    keys = [key for key in SERVERS if _elsewhere(config, key, str(values.get(key, "")))]
    answers: dict[str, str | None] = {}

    def ask(key: str) -> None:
        answers[key] = _answer(config, key, values[key])

    # Threads that may hang, as no driver bounds the time of everything.
    threads = [threading.Thread(target=ask, args=(key,), daemon=True) for key in keys]
    for thread in threads:
        thread.start()
    until = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(0, until - time.monotonic()))
    for key in keys:
        if problem := answers.get(key, f"has not answered for {SECONDS} s"):
            yield key, problem


def _elsewhere(config: Settings, key: str, uri: str) -> bool:
    return "://" in uri or (key == "models.uri" and _in_service(config, uri))


def _in_service(config: Settings, uri: str) -> bool:
    """Whether a model is to be asked for; what is refused or missing anyway is not."""
    where = config.models.tracking_uri if uri.startswith("models:/") else uri
    folder = _named("models.uri", uri)
    return config.production and not _sqlite(where) and (folder is None or folder.exists())


def _answer(config: Settings, key: str, uri: str) -> str | None:
    """What is wrong with a database or a server, None if nothing is."""
    try:
        return _ask(config, key, uri)
    except Exception as error:  # of any driver's and client's kind
        known = f"{redacted(uri)}: " if is_database(uri) else ""
        return f"cannot be used: {brief(error).removeprefix(known)}"


def _ask(config: Settings, key: str, uri: str) -> str | None:
    address = urlsplit(uri)
    if is_database(uri):
        if problem := _database(config, key, uri):
            return problem
        if key == "batch.input":
            from .tables import reader  # here, because an API has no Arrow

            reader.sql_columns(uri)
    elif address.scheme in ("http", "https"):
        port = address.port or {"http": 80, "https": 443}[address.scheme]
        socket.create_connection((address.hostname, port), SECONDS / 2).close()
    if key == "models.uri" and _in_service(config, uri):
        from .models import registry  # here, for the same reason as CONTRACT

        registry.identify(uri, config)
    return None


def _database(config: Settings, key: str, uri: str) -> str | None:
    file = sqlite_file(uri)
    if file and not file.exists() and key != "batch.input":
        return None if _can_be_made(file) else "cannot be made: name another"
    with connect(uri, seconds=SECONDS / 2) as connection:
        connection.exec_driver_sql("SELECT 1")
        for place in migrate.configured(config).get(uri.partition("#")[0], []):
            found = migrate.version(connection, place.kind, place.uri)
            # On a laptop tables are made when they are needed.
            needed = place.setting == key and (found or config.production)
            if needed and (problem := migrate.problem(place.kind, found)):
                return problem.rstrip(".")
    return None
