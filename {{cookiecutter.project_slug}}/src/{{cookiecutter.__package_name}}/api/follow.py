"""``follow``: keep a folder in step with a model elsewhere.

The folder gets a verified copy of the model, and another one when the alias moves. A file names
the copy that is current; it is replaced in one step, so that a reader never sees half a model. The
API reads such a folder: it never waits for the registry, nor holds the registry's client in memory.
"""

import argparse
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from .. import settings
from ..errors import ProjectError, brief
from ..models import artifact, stores
from ..settings import Settings
from ..tables.json_files import write_json
from ..tables.locks import only_one
from .processes import backoff

log = logging.getLogger(__name__)
INCOMING = ".incoming"
# Copies that stay: the current one, and the one before it for whoever still reads it.
KEPT = 2
LONGEST_PAUSE = 60.0


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


def run(arguments: argparse.Namespace) -> int:
    config = settings.load()
    source = stores.typed(arguments.source) if arguments.source else config.models.uri
    folder = Path(arguments.folder).absolute()
    with alone(folder):
        follower = Follower(source, folder, config)
        if arguments.once:
            follower.update()
            return 0
        while True:
            follower.step()
            print(follower.said, flush=True)
            time.sleep(follower.wait())


def alone(folder: Path):
    """Hold the folder: two that follow would remove each other's copies."""
    return only_one("follow", folder, f"what follows the model in {folder}")


class Follower:
    """Copies the model into the folder whenever it is another one and it is time to look.

    :param told: called after each look with whether the source answered, and whether it named a
        model for the first time that cannot be used.
    """

    def __init__(
        self,
        source: str,
        folder: Path,
        config: Settings,
        told: Callable[[bool, bool], None] = lambda up, unfit: None,
    ) -> None:
        self.source, self.folder, self.config, self.told = source, folder, config, told
        self.said, self._unfit, self._failures, self._due = "", "", 0, 0.0
        # A copy may have been damaged while nobody followed.
        self._whole = is_whole(folder, config)

    def step(self) -> None:
        """Look if it is time; never raises. ``said`` tells how it went."""
        if self.wait() > 0:
            return
        unfit, up = "", True
        try:
            self.update()
            said, self._failures = f"in step: {artifact.current(self.folder).name}", 0
        except Exception as error:  # whatever a registry's client may raise, the next try may work
            said, self._failures = f"error: {brief(error)}", self._failures + 1
            unfit = getattr(error, "model", "")
            up = bool(unfit)
        if said != self.said:
            log.log(logging.WARNING if self._failures else logging.INFO, "model registry %s", said)
        self.told(up, unfit not in ("", self._unfit))
        self.said, self._unfit = said, unfit
        usual = self.config.api.reload_seconds
        self._due = time.monotonic() + backoff(usual, self._failures, LONGEST_PAUSE)

    def wait(self) -> float:
        """Seconds until it is time to look."""
        return max(0.0, self._due - time.monotonic())

    def update(self) -> None:
        """Copy the model if it is another than the current one, and proves itself.

        :raises UnfitError: the source names a model that cannot be had, or does not pass.
        """
        name = stores.identify(self.source, self.config)
        there = (self.folder / name / artifact.METADATA).is_file()
        if there and self._whole and artifact.current(self.folder).name == name:
            return
        incoming = self.folder / INCOMING
        shutil.rmtree(incoming, ignore_errors=True)
        try:
            stores.copy(self.source, str(incoming), self.config)
        except Exception as error:  # whatever a damaged model makes its runtime raise
            raise UnfitError(name, brief(error)) from error
        # The alias may have moved in between: the copy says itself which version it is.
        name = stores.label(artifact.read_metadata(incoming))
        shutil.rmtree(self.folder / name, ignore_errors=True)
        incoming.rename(self.folder / name)
        write_json(self.folder / artifact.CURRENT, {"folder": name})
        self._whole = True
        made = sorted(
            self.folder.glob(f"*/{artifact.METADATA}"), key=lambda path: path.stat().st_ctime
        )
        for old in made[:-KEPT]:
            if old.parent.name != name:
                shutil.rmtree(old.parent, ignore_errors=True)


def is_whole(folder: Path, config: Settings) -> bool:
    """Whether the current copy is there, and is what was copied."""
    try:
        current = artifact.current(folder)
        artifact.self_test(artifact.open_model(current, allow_pickle=config.models.allow_pickle))
    except Exception:  # see update
        return False
    return True
