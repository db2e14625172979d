"""What was predicted, by any flavor, through one interface; and the labels of these rows."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contract import CONTRACT
from ..errors import ProjectError
from ..models.reference import Reference
from ..schema.arrow import arrow_type, read
from ..settings import Settings
from .records import Period

# Section of the settings that a flavor has: the module and class of its Source.
SOURCES = {"batch": ("batch_runs", "BatchRuns"), "api": ("api_predictions", "ApiPredictions")}


@dataclass
class Predicted:
    """What one version of the model predicted in a period; ``of`` is for its source alone.

    ``sha256`` is None where a source does not keep it, ``rejected`` where it does not keep what it
    refuses.
    """

    name: str
    version: str
    sha256: str | None
    period: Period
    rows: int
    rejected: int | None
    last: datetime
    of: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Labelled:
    """The labels that are known: true and predicted codes (labels,), and probabilities
    (labels, classes) if the source keeps those of all classes.

    If a label has several predictions, only the newest one is here, but ``rows`` counts all.
    """

    target: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None
    rows: int


class Labels:
    """Collects labelled rows: a sample of at most ``most``, in which each is as likely."""

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.random, self.rows = most, np.random.default_rng(seed), 0
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._probabilities = True

    def add(
        self, rows: int, target: np.ndarray, codes: np.ndarray, probabilities: np.ndarray | None
    ) -> None:
        """:param rows: predictions with a label, also those that are not here."""
        self.rows += rows
        self._probabilities &= probabilities is not None
        empty = np.empty((len(target), 0), np.float32)
        each = empty if probabilities is None else probabilities
        if len(target):
            self._parts.append((target, codes, each, self.random.random(len(target))))
        if sum(len(part[0]) for part in self._parts) > 2 * self.most:
            self._parts = [self._sample()]

    def labelled(self) -> Labelled:
        if not self._parts:
            return Labelled(np.empty(0), np.empty(0), None, self.rows)
        target, codes, probabilities, _ = self._sample()
        known = np.isfinite(target) & np.isfinite(codes)  # a class may have left the contract
        each = probabilities[known] if self._probabilities else None
        return Labelled(target[known], codes[known], each, self.rows)

    def _sample(self) -> tuple[np.ndarray, ...]:
        """The rows with the smallest random numbers."""
        if not self._probabilities:
            self._parts = [(*part[:2], part[2][:, :0], part[3]) for part in self._parts]
        joined = tuple(map(np.concatenate, zip(*self._parts, strict=True)))
        kept = np.argsort(joined[3], kind="stable")[: self.most]
        return tuple(part[kept] for part in joined)


class Source(Protocol):
    """The predictions of one flavor.

    :raises ProjectError: they cannot be read, as every method.
    """

    name: str

    def predicted(self, period: Period) -> list[Predicted]:
        """What each version predicted, the version with the newest prediction last."""

    def newest(self, until: datetime) -> datetime | None:
        """When the last prediction before a time was made; None if there was none."""

    def counts(self, predicted: Predicted, reference: Reference) -> dict | None:
        """``Reference.named`` of the rows; None if nothing was counted."""

    def inputs(self, predicted: Predicted) -> np.ndarray | None:
        """A sample of the rows, float32 (rows, columns); None if inputs are not kept."""

    def rejections(self, predicted: Predicted) -> dict[tuple[str, str], int]:
        """How many values were rejected, by column and reason."""

    def duplicates(self, predicted: Predicted) -> int | None:
        """How many rows repeat the key of another row of their run; None if that says nothing."""

    def labelled(self, predicted: Predicted, most: int) -> Labelled:
        """The labels of the rows; of more than ``most``, a random sample."""

    def unmatched(self, of: pa.Array) -> pa.Array:
        """Those of the ids that no prediction has."""


def sources(config: Settings) -> Iterator[Source]:
    """A source for each flavor of this project."""
    for section, (module, name) in SOURCES.items():
        if hasattr(config, section):
            yield getattr(importlib.import_module(f".{module}", __package__), name)(config)


def ids(batch: pa.RecordBatch, columns: list[str]) -> pa.Array:
    """The ids of rows as text, to find the label of a prediction.

    :param columns: the key; without a key, the columns that say where the row is.
    :raises ProjectError: one of them is missing.
    """
    if missing := [name for name in columns if name not in batch.schema.names]:
        raise ProjectError(f"predictions have no column {', '.join(missing)}.")
    if key := CONTRACT.key:
        return read(key, batch.column(key.name), arrow_type(key))[0].cast(pa.string())
    texts = [batch.column(name).cast(pa.string()) for name in columns]
    return pc.binary_join_element_wise(*texts, "/")
