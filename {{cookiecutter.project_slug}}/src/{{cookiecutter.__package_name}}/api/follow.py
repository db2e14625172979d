"""``follow``: keep a local copy of a model up to date.

The folder gets a verified copy of the model, and a new copy when the alias moves. A file names the
current copy. This file is replaced in one step, so that a reader never sees half a model. The API
reads such a folder, so it never waits for the registry and never loads the registry's client.
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
# Copies that stay: the current one, and the previous one for processes that still read it.
KEPT = 2
LONGEST_PAUSE = 60.0


class UnfitError(ProjectError):
    """The model that the source names cannot be used."""

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
    """Lock the folder: two followers would remove each other's copies."""
    return only_one("follow", folder, f"what follows the model in {folder}")


class Follower:
    """Checks the source at intervals, and copies the model into the folder if it has changed.

    :param told: called after each check with two booleans: whether the source answered, and
        whether it names, for the first time, a model that cannot be used.
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
        # The copy may have been damaged while no follower ran.
        self._whole = is_whole(folder, config)

    def step(self) -> None:
        """Check the source if a check is due; never raises. ``said`` holds the result."""
        if self.wait() > 0:
            return
        unfit, up = "", True
        try:
            self.update()
            said, self._failures = f"in step: {artifact.current(self.folder).name}", 0
        except Exception as error:  # any error of a registry's client: the next try may work
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
        """Seconds until the next check is due."""
        return max(0.0, self._due - time.monotonic())

    def update(self) -> None:
        """Copy the model if it differs from the current copy and passes its checks.

        :raises UnfitError: the model that the source names cannot be copied, or fails its checks.
        """
        name = stores.identify(self.source, self.config)
        there = (self.folder / name / artifact.METADATA).is_file()
        if there and self._whole and artifact.current(self.folder).name == name:
            return
        incoming = self.folder / INCOMING
        shutil.rmtree(incoming, ignore_errors=True)
        try:
            stores.copy(self.source, str(incoming), self.config)
        except Exception as error:  # a damaged model may raise any error
            raise UnfitError(name, brief(error)) from error
        # The alias may have moved in between: the copy's own metadata has its version.
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
    """Whether the current copy exists and is undamaged."""
    try:
        current = artifact.current(folder)
        artifact.self_test(artifact.open_model(current, allow_pickle=config.models.allow_pickle))
    except Exception:  # see update
        return False
    return True
