"""The model that an API serves: verified, self-tested, and replaced while requests go on.

The API reads models only from a folder; follow.py copies a model of a registry to one. When the
folder holds another model, it is loaded while the old one serves, and replaces the old one if it
passes its checks. Otherwise, the old one continues to serve.
"""

import gc
import logging
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..contract import CONTRACT
from ..errors import brief
from ..models.artifact import current, open_model, self_test
from ..models.predict import Model

log = logging.getLogger(__name__)
TIMED_ROWS, TIMES = 100, 3
# Seconds; a call that takes longer is not timed again.
CLEARLY_SLOW = 0.1


class Predictions(NamedTuple):
    """The predictions for a request: values of the target, and the probability of each or None.

    ``scores`` are the probabilities of all classes, shape (rows, classes), or None.
    """

    predictions: list
    probabilities: list | None
    scores: np.ndarray | None = None

    def by_class(self) -> dict[str, list] | None:
        """The probabilities of each class, by its name."""
        if self.scores is None:
            return None
        return dict(zip(CONTRACT.target.class_names, self.scores.T.tolist(), strict=True))


@dataclass(frozen=True)
class Served:
    """A model that passed its checks, and the time that a call and a row take."""

    model: Model
    seconds_per_call: float
    seconds_per_row: float

    def seconds(self, rows: int) -> float:
        """The estimated time of a call with this many rows."""
        return self.seconds_per_call + rows * self.seconds_per_row

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def version(self) -> str:
        return self.model.version

    def describe(self) -> dict:
        """What GET /model answers."""
        known = self.model.metadata
        return {
            "name": self.name,
            "version": self.version,
            "alias": known.get("alias"),
            "sha256": known["sha256"],
            "artifact": known["artifact"],
            "estimator": known.get("estimator"),
            "trained_at": known.get("trained_at"),
            "metrics": known.get("metrics", {}),
            "contract": CONTRACT.describe(),
        }

    @property
    def trained(self) -> float | None:
        """When it was trained, in seconds since 1970."""
        at = self.model.metadata.get("trained_at")
        return datetime.fromisoformat(at).timestamp() if at else None


class Shelf:
    """The folder that models are read from, and the last model that passed its checks."""

    def __init__(self, folder: Path, allow_pickle: bool = False) -> None:
        self.folder, self.allow_pickle = folder, allow_pickle
        self._seen = self._look()
        self.served = self._load(self._seen)

    def refresh(self) -> bool | None:
        """Load a changed model: True if it serves now, False if it failed, None if unchanged.

        A model that failed is tried again when it changes again. The call blocks while it loads;
        the old model serves meanwhile.
        """
        try:
            found = self._look()
            if found == self._seen:
                return None
            self._seen = found
            self.served = served = self._load(found)
        except Exception as error:  # a damaged model may raise any error
            log.error("The model in %s is not used: %s", self.folder, brief(error))
            return False
        log.info("Version %s of %s serves.", served.version, served.name)
        settle()
        return True

    def _look(self) -> tuple:
        """The current folder and its files' stamps, which differ after every change."""
        folder = current(self.folder)
        files = sorted(path for path in folder.glob("*") if path.is_file())
        stats = [(path.name, path.stat()) for path in files]
        return folder, *(
            (name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats
        )

    def _load(self, found: tuple) -> Served:
        model = open_model(found[0], allow_pickle=self.allow_pickle)
        self_test(model)
        known = np.asarray(model.metadata["self_test"]["rows"], np.float32)
        rows = np.resize(known, (TIMED_ROWS, len(CONTRACT.columns)))
        one, many = (_seconds(model, rows[:count]) for count in (1, TIMED_ROWS))
        return Served(model, one, max(0.0, many - one) / TIMED_ROWS)


def _seconds(model: Model, rows: np.ndarray) -> float:
    """The time of a call: the shortest of a few, because other processes only add to it."""
    times = []
    for _ in range(TIMES):
        began = time.perf_counter()
        model.score(rows)
        times.append(time.perf_counter() - began)
        if times[-1] > CLEARLY_SLOW:
            break
    return min(times)


def settle() -> None:
    """Exclude all current objects, which stay, from further garbage collections."""
    gc.collect()
    gc.freeze()
