"""``follow``: keep a folder in step with a model elsewhere.

The folder gets a verified copy of the model, and another one when the alias moves. A file names
the copy that is current; it is replaced in one step, so that a reader never sees half a model. The
API reads such a folder: it never waits for the registry, nor holds the registry's client in memory.
"""

import argparse
import logging
import random
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .. import settings
from ..errors import ProjectError, brief
from ..models import artifact, stores
from ..settings import Settings
from ..tables.json_files import read_json, write_json
from ..tables.locks import only_one
from .companion import END_SECONDS, LONGEST_PAUSE, Companion, until_eof

log = logging.getLogger(__name__)
INCOMING, STATUS = ".incoming", "status.json"
# Copies that stay: the current one, and the one before it for whoever still reads it.
KEPT = 2
FIRST_COPY_SECONDS = 120


class UnfitError(ProjectError):
    """The model that the registry names is not used."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(f"{model} is not used: {why}")
        self.model = model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="FROM", nargs="?", help="a connection string (default: models.uri)"
    )
    parser.add_argument("folder", metavar="FOLDER", help="where the API finds the model")
    parser.add_argument("--once", action="store_true", help="copy what is there now, and end")
    parser.add_argument("--until-eof", action="store_true", help="end with the standard input")


def run(arguments: argparse.Namespace) -> int:
    config = settings.load()
    source = stores.typed(arguments.source) if arguments.source else config.models.uri
    folder = Path(arguments.folder).absolute()
    # One that has lost its API ends within seconds.
    with only_one("follow", folder, f"`follow` of {folder}", 2 * END_SECONDS):
        if arguments.once:
            update(source, folder, config)
            return 0
        stop = threading.Event()
        if arguments.until_eof:
            until_eof(stop.set)
        follow(source, folder, config, stop)
    return 0


def follow(source: str, folder: Path, config: Settings, stop: threading.Event) -> None:
    """Update the folder every ``api.reload_seconds``, after errors less often, until ``stop``.

    One line on the standard output tells each change of state.
    """
    told, failures, whole = "", 0, False
    while not stop.is_set():
        unfit = None
        try:
            # A copy may have been damaged while nobody followed.
            whole = whole or is_whole(folder, config)
            update(source, folder, config, again=not whole)
            whole = True
            said, failures = f"in step: {artifact.current(folder).name}", 0
        except Exception as error:  # whatever a registry's client may raise, the next try may work
            said, failures = f"error: {brief(error)}", failures + 1
            unfit = getattr(error, "model", None)
        _tell(folder, said, unfit)
        if said != told:
            print(said, flush=True)
            told = said
        stop.wait(pause(config.api.reload_seconds, failures))


def _tell(folder: Path, state: str, unfit: str | None) -> None:
    """Write the state down for ``status``, in one step; a full disk leaves the old one."""
    up = unfit is not None or not state.startswith("error")
    with suppress(OSError):
        found = {"checked": time.time(), "up": up, "state": state, "unfit": unfit}
        write_json(folder / STATUS, found)


def pause(usual: float, failures: int) -> float:
    """Seconds until the next look: after errors twice as long each time, up to a minute."""
    longest = max(usual, LONGEST_PAUSE)
    return min(usual * 2 ** min(failures, 10), longest) * random.uniform(0.8, 1)  # noqa: S311


def is_whole(folder: Path, config: Settings) -> bool:
    """Whether the current copy is there, and is what was copied."""
    try:
        current = artifact.current(folder)
        artifact.self_test(artifact.open_model(current, allow_pickle=config.models.allow_pickle))
    except Exception:  # whatever a damaged model makes its runtime raise
        return False
    return True


def update(source: str, folder: Path, config: Settings, again: bool = False) -> None:
    """Copy the model if it is another than the current one, and proves itself.

    :param again: copy it in any case.
    :raises UnfitError: the registry names a model that cannot be had, or does not pass.
    """
    name = stores.identify(source, config)
    there = (folder / name / artifact.METADATA).is_file()
    if there and not again and artifact.current(folder).name == name:
        return
    incoming = folder / INCOMING
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        stores.copy(source, str(incoming), config)
    except Exception as error:  # see is_whole
        raise UnfitError(name, brief(error)) from error
    found = artifact.read_metadata(incoming)
    # The alias may have moved in between: the copy says itself which version it is.
    name = stores.label(found)
    shutil.rmtree(folder / name, ignore_errors=True)
    incoming.rename(folder / name)
    write_json(folder / artifact.CURRENT, {"folder": name})
    copies = sorted(folder.glob(f"*/{artifact.METADATA}"), key=lambda path: path.stat().st_ctime)
    for old in copies[:-KEPT]:
        if old.parent.name != name:
            shutil.rmtree(old.parent, ignore_errors=True)


class Status(NamedTuple):
    """How the last look at the registry went: whether it answered, when (seconds since 1970), and
    the model that it named if that one is not fit to serve."""

    up: bool
    checked: float
    unfit: str | None


def status(folder: Path, usual: float) -> Status:
    """A registry that has not answered for long, so that there was no other look, is down too."""
    try:
        found = read_json(folder / STATUS) or {}
        recent = time.time() - found["checked"] < usual + 2 * LONGEST_PAUSE
        return Status(recent and found["up"], found["checked"], found["unfit"])
    except (OSError, KeyError):
        return Status(False, 0.0, None)


class Follower:
    """A companion that runs ``follow`` of models.uri for the API."""

    def __init__(self, folder: Path) -> None:
        self._first, self.said, self._folder = threading.Event(), "", folder
        self._companion = Companion("follow", str(folder), heard=self._hear)
        self.stop = self._companion.stop

    def _hear(self, line: str) -> None:
        if line:
            self.said = line
            log.info("model registry %s", line)
        self._first.set()

    def first_copy(self) -> None:
        """Wait until the folder was in step for the first time.

        :raises ProjectError: what the registry answered instead.
        """
        if not self._first.wait(FIRST_COPY_SECONDS):
            raise ProjectError(f"the registry gave no model within {FIRST_COPY_SECONDS} seconds.")
        if not self.said.startswith("in step"):
            ended = "`follow` ended; an API of this project that runs already has its model here: "
            hint = f"{ended}serve it too with --model {self._folder}."
            raise ProjectError(self.said.removeprefix("error: ") or hint)
