"""Where settings come from: variables, files that they name, mounted secrets, .env and config/.

Only this module and ``settings.py`` read the environment.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    TomlConfigSettingsSource,
)

from .errors import ProjectError

# Where Docker, Podman and Swarm mount secrets, and Kubernetes may.
SECRETS = Path("/run/secrets")
LONGEST_SECRET = 64 * 1024  # bytes
# KEEPING__DATABASE_FILE names the file with the value of KEEPING__DATABASE.
FILE = "_FILE"


class Given(NamedTuple):
    """A setting's value as text, and where it was found."""

    value: str
    place: str


class Variables(EnvSettingsSource):
    """Settings by the names of variables, wherever those stand."""

    def __init__(self, settings: type[BaseSettings], given: Mapping[str, Given]) -> None:
        self.given = {name.lower(): each for name, each in given.items()}
        super().__init__(settings)

    def _load_env_vars(self) -> dict[str, str]:
        return {name: each.value for name, each in self.given.items()}

    def place(self, path: tuple[str, ...]) -> str:
        names = ("__".join(path[:depth]).lower() for depth in range(len(path), 0, -1))
        return next(self.given[name].place for name in names if name in self.given)


class Toml(TomlConfigSettingsSource):
    """Settings of ``config/<environment>.toml``."""

    def __init__(self, settings: type[BaseSettings], file: Path) -> None:
        try:
            super().__init__(settings, file)
        except ValueError as error:
            raise ProjectError(f"{file}: {error}.") from None

    def place(self, path: tuple[str, ...]) -> str:
        return f"config/{self.toml_file_path.name}"


class Fallbacks(InitSettingsSource):
    """Settings that variables of other programs' making stand in for, such as PORT."""

    def __init__(self, settings: type[BaseSettings], names: Mapping[tuple[str, str], str]) -> None:
        self.names = {path: name for path, name in names.items() if os.environ.get(name)}
        found: dict[str, dict[str, str]] = {}
        for (section, key), name in self.names.items():
            found.setdefault(section, {})[key] = os.environ[name]
        super().__init__(settings, found)

    def place(self, path: tuple[str, ...]) -> str:
        return self.names[path[:2]]


def sources(
    settings: type[BaseSettings], project: Path, fallbacks: Mapping[tuple[str, str], str]
) -> list:
    """All places that settings are taken from, the first that has one counts.

    :raises ProjectError: no such environment, or a file that is named cannot be read.
    """
    dotenv, known = read_dotenv(settings, project), names(settings)
    found = [
        _plain(os.environ.items(), known, "environment"),
        _named(os.environ.items(), known, project, "environment"),
        _mounted(settings, project),
        _plain(dotenv.items(), known, ".env"),
        _named(dotenv.items(), known, project, ".env"),
    ]
    return [
        *(Variables(settings, given) for given in found),
        Toml(settings, _config(project)),
        Fallbacks(settings, fallbacks),
    ]


def read_dotenv(settings: type[BaseSettings], project: Path) -> dict[str, str]:
    """The settings in ``.env``; its other variables, such as API_KEY or those of a cloud's client,
    join the environment, unless they are there.

    :raises ProjectError: it cannot be read.
    """
    file = project / ".env"
    try:
        found = {name: text for name, text in dotenv_values(file).items() if text}
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{file} cannot be read: {error}.") from None
    for name in [name for name in found if not _owns(settings, name)]:
        os.environ.setdefault(name, found.pop(name))
    return found


def names(settings: type[BaseSettings]) -> set[str]:
    """The variable of every setting: LOG_LEVEL, TRAINING__FOLDS, …"""
    found = set()
    for name, field in settings.model_fields.items():
        keys = getattr(field.annotation, "model_fields", None)
        found |= {f"{name}__{key}".upper() for key in keys} if keys else {name.upper()}
    return found


def override(given: Mapping[str, str | None]) -> None:
    """Set variables of this process and of those it will start, over every other source."""
    for name, value in given.items():
        if value:
            for other in [each for each in os.environ if each.upper() in (name, name + FILE)]:
                del os.environ[other]
            os.environ[name] = value


def _owns(settings: type[BaseSettings], name: str) -> bool:
    """Whether a variable is meant for the settings, be it well or badly written."""
    name = name.upper().removesuffix(FILE)
    return any(
        name == own or name.startswith(f"{own}__") for own in map(str.upper, settings.model_fields)
    )


def _plain(variables: Iterable[tuple[str, str]], known: set[str], place: str) -> dict[str, Given]:
    given = {name: Given(text, place) for name, text in variables if text}
    return {name: each for name, each in given.items() if not _stem(name, known)}


def _named(
    variables: Iterable[tuple[str, str]], known: set[str], project: Path, place: str
) -> dict[str, Given]:
    """What stands in the files that variables such as KEEPING__DATABASE_FILE name."""
    filled = {name.upper(): text for name, text in variables if text}
    found = {}
    for name, text in filled.items():
        if stem := _stem(name, known):
            if stem in filled:
                raise ProjectError(f"{stem} and {name} are both given ({place}): leave one out.")
            where = name if place == "environment" else f"{place} {name}"
            found[stem] = Given(_content(project / text, name), where)
    return found


def _stem(name: str, known: set[str]) -> str | None:
    """The variable that stands in a file, if ``name`` is one that names a file."""
    stem = name.upper().removesuffix(FILE)
    return stem if stem != name.upper() and stem in known and name.upper() not in known else None


def _mounted(settings: type[BaseSettings], project: Path) -> dict[str, Given]:
    """Files of a folder of secrets, named as variables; all others are somebody else's."""
    chosen = os.environ.get("SECRETS_DIR")
    folder = project / chosen if chosen else SECRETS
    found: dict[str, Given] = {}
    for file in sorted(_entries(folder, "SECRETS_DIR" if chosen else None)):
        name = file.name.upper()
        if _owns(settings, file.name) and not file.is_dir():
            if name in found:
                raise ProjectError(f"{found[name].place} and {file} are one setting: remove one.")
            found[name] = Given(_content(file, name), str(file))
    return found


def _entries(folder: Path, variable: str | None) -> Iterator[Path]:
    """:raises ProjectError: a folder that ``variable`` names cannot be read."""
    try:
        yield from folder.iterdir()
    except OSError as error:
        if variable:
            raise ProjectError(f"{variable}: {folder}: {_reason(error)}.") from None


def _content(file: Path, what: str) -> str:
    """:raises ProjectError: the file cannot be read, is empty, or is no short text."""
    try:
        if file.exists() and not file.is_file():
            raise ProjectError(f"{what}: {file} is no file.")
        with file.open("rb") as opened:
            content = opened.read(LONGEST_SECRET + 1)
        if len(content) > LONGEST_SECRET:
            raise ProjectError(f"{what}: {file} is longer than {LONGEST_SECRET} bytes.")
        text = content.decode().strip()
    except OSError as error:
        raise ProjectError(f"{what}: {file}: {_reason(error)}.") from None
    except UnicodeDecodeError:
        raise ProjectError(f"{what}: {file} is no text in UTF-8.") from None
    if not text:
        raise ProjectError(f"{what}: {file} is empty.")
    return text


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _config(project: Path) -> Path:
    environment = os.environ.get("ENVIRONMENT") or "nonprod"
    file = project / "config" / f"{environment}.toml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.toml"))) or "none"
        raise ProjectError(f"ENVIRONMENT={environment}: there is no {file}; known are: {known}.")
    return file
