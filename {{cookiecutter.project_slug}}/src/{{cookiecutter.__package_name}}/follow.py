"""``follow``: keep a folder in step with a model in a registry.

The folder gets a verified copy of the model, and another one when the alias moves. A file names
the copy that is current; it is replaced in one step, so that a reader never sees half a model. The
API reads such a folder: it never waits for the registry, nor holds the registry's client in memory.
"""

import argparse
import json
import logging
import random
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from . import predict, registry, settings
from .companion import END_SECONDS, LONGEST_PAUSE, Companion, until_eof
from .errors import ProjectError, brief
from .locks import only_one
from .settings import Settings

log = logging.getLogger(__name__)
INCOMING, STATUS = ".incoming", "status.json"
# Copies that stay: the current one, and the one before it for whoever still reads it.
KEPT = 2
FIRST_COPY_SECONDS = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FROM", help="models:/name@alias")
    parser.add_argument("folder", metavar="FOLDER", help="where the API finds the model")
    parser.add_argument("--once", action="store_true", help="copy what is there now, and end")
    parser.add_argument("--until-eof", action="store_true", help="end with the standard input")


def run(arguments: argparse.Namespace) -> int:
    config = settings.load()
    folder = Path(arguments.folder).absolute()
    # One that has lost its API ends within seconds.
    with only_one("follow", folder, f"`follow` of {folder}", 2 * END_SECONDS):
        if arguments.once:
            update(arguments.source, folder, config)
            return 0
        stop = threading.Event()
        if arguments.until_eof:
            until_eof(stop.set)
        follow(arguments.source, folder, config, stop)
    return 0


def follow(source: str, folder: Path, config: Settings, stop: threading.Event) -> None:
    """Update the folder every ``api.reload_seconds``, after errors less often, until ``stop``.

    One line on the standard output tells each change of state.
    """
    told, failures, whole = "", 0, False
    while not stop.is_set():
        try:
            # A copy may have been damaged while nobody followed.
            whole = whole or is_whole(folder, config)
            update(source, folder, config, again=not whole)
            whole = True
            said, failures = f"in step: {predict.current(folder).name}", 0
        except Exception as error:  # whatever a registry's client may raise, the next try may work
            said, failures = f"error: {brief(error)}", failures + 1
        _tell(folder, said)
        if said != told:
            print(said, flush=True)
            told = said
        stop.wait(pause(config.api.reload_seconds, failures))


def _tell(folder: Path, state: str) -> None:
    """Write the state down for ``status``, in one step; a full disk leaves the old one."""
    with suppress(OSError):
        _replace(folder / STATUS, {"checked": time.time(), "state": state})


def _replace(file: Path, content: dict) -> None:
    unfinished = file.with_name(f".{file.name}")
    unfinished.write_text(json.dumps(content), "utf-8")
    unfinished.replace(file)


def pause(usual: float, failures: int) -> float:
    """Seconds until the next look: after errors twice as long each time, up to a minute."""
    longest = max(usual, LONGEST_PAUSE)
    return min(usual * 2 ** min(failures, 10), longest) * random.uniform(0.8, 1)  # noqa: S311


def is_whole(folder: Path, config: Settings) -> bool:
    """Whether the current copy is there, and is what was copied."""
    try:
        predict.open_model(predict.current(folder), allow_pickle=config.models.allow_pickle)
    except (ProjectError, OSError):
        return False
    return True


def update(source: str, folder: Path, config: Settings, again: bool = False) -> None:
    """Copy the model if it is another than the current one; the copy is verified on arrival.

    :param again: copy it in any case.
    """
    name = registry.identify(source, config)
    there = (folder / name / predict.METADATA).is_file()
    if there and not again and predict.current(folder).name == name:
        return
    incoming = folder / INCOMING
    shutil.rmtree(incoming, ignore_errors=True)
    registry.copy(source, str(incoming), config)
    found = predict.read_metadata(incoming)
    # The alias may have moved in between: the copy says itself which version it is.
    name = registry.label(found)
    shutil.rmtree(folder / name, ignore_errors=True)
    incoming.rename(folder / name)
    _replace(folder / predict.CURRENT, {"folder": name})
    copies = sorted(folder.glob(f"*/{predict.METADATA}"), key=lambda path: path.stat().st_ctime)
    for old in copies[:-KEPT]:
        if old.parent.name != name:
            shutil.rmtree(old.parent, ignore_errors=True)


def status(folder: Path, usual: float) -> tuple[bool, float]:
    """Whether the last look at the registry went well, and when it was (seconds since 1970).

    A registry that has not answered for long, so that there was no other look, is down too.
    """
    try:
        found = json.loads((folder / STATUS).read_text("utf-8"))
        recent = time.time() - found["checked"] < usual + 2 * LONGEST_PAUSE
        return recent and not found["state"].startswith("error"), found["checked"]
    except (OSError, ValueError, KeyError):
        return False, 0.0


class Follower:
    """A companion that runs ``follow`` for the API."""

    def __init__(self, source: str, folder: Path) -> None:
        self._first, self.said = threading.Event(), ""
        self._companion = Companion("follow", source, str(folder), heard=self._hear)
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
            raise ProjectError(self.said.removeprefix("error: ") or "`follow` ended.")
