"""The training table, and which of its rows are held out."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .. import data
from ..contract import CONTRACT
from ..errors import ProjectError, of_user
from ..schema import Column, arrow
from ..settings import Settings, Training
from ..tables.databases import local_path, of_files, redacted
from ..tables.storage import in_cloud


@dataclass(frozen=True)
class Split:
    """Training and held-out rows: features float32 (rows, columns), targets float64 (rows,)."""

    training: np.ndarray
    target: np.ndarray
    holdout: np.ndarray
    holdout_target: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.training) + len(self.holdout)


def training_table(config: Settings) -> pd.DataFrame:
    """The table that ``training.table`` names, loaded and prepared by data.py.

    :raises ProjectError: it cannot be loaded or prepared.
    """
    uri = config.training.table
    try:
        with of_user("data.load()"):
            table = data.load(uri)
    except ProjectError as error:
        if not of_files(uri) or in_cloud(uri) or local_path(uri).exists():
            raise
        raise ProjectError(
            f"training.table: {error} Files in data/ are not committed: name a table that every "
            "machine can read, see docs/bring-your-own-data.md."
        ) from None
    with of_user("data.prepare()"):
        table = data.prepare(table)
    if not isinstance(table, pd.DataFrame):
        raise ProjectError(f"data.py returns {type(table).__name__}, no DataFrame.")
    return table


def load_split(config: Settings) -> Split:
    """The training table, split into training and held-out rows.

    :raises ProjectError: it cannot be loaded or prepared, breaks the contract, or is too small.
    """
    split = split_table(training_table(config), config)
    _require_classes(split.target, config.training)
    return split


def split_table(table: pd.DataFrame, config: Settings) -> Split:
    """Split by the contract's ``time``, or else by a hash of each row's key or features.

    When the table grows, a champion is still not compared on rows it was fitted on; with ``time``,
    only if the new rows are newer. The split is stored in ``training.work``.
    """
    target, share = CONTRACT.target, config.training.holdout_share
    table = table.rename(columns=str)
    where = f"the training table {redacted(config.training.table)}"
    CONTRACT.require([*table.columns], where, training=True)
    if not len(table):
        raise ProjectError("the training table has no rows.")
    names = [*CONTRACT.needed, target.name, *filter(None, [CONTRACT.time])]
    batch = arrow.as_batch(table[[*dict.fromkeys(names)]])
    checked = CONTRACT.check(batch)
    if not checked.valid.all():
        mend = "Fix the rows in data.py or change contract.py: nullable=True allows missing values"
        raise ProjectError(f"{where}: {checked.told}. {mend}.")
    features, codes = checked.matrix, _required(target, batch)
    if CONTRACT.time:
        held = newest(_required(CONTRACT.time_column, batch), share)
    else:
        held = np.array([_share(key, config.training.seed) for key in _keys(checked)]) < share
    if held.all() or not held.any():
        days = f", or the newest {CONTRACT.time} is that of too many of them" * bool(CONTRACT.time)
        problem = f"too few to hold out training.holdout_share = {share:g}{days}"
        raise ProjectError(f"the training table has {len(table)} rows: {problem}.")
    split = Split(features[~held], codes[~held], features[held], codes[held])
    _require_values(split.training)
    folder = Path(config.training.work)
    folder.mkdir(parents=True, exist_ok=True)
    stored = pa.Table.from_batches([batch]).append_column("holdout", pa.array(held))
    pq.write_table(stored, folder / "split.parquet")
    return split


def _required(column: Column, batch: pa.RecordBatch) -> np.ndarray:
    """The numeric form, float64 (rows,), of a column that must have a value in every row."""
    codes, wrong = arrow.encode(column, batch.column(column.name))
    if wrong or np.isnan(codes).any():
        rows, reason = wrong[0] if wrong else (np.flatnonzero(np.isnan(codes)), "is missing")
        raise ProjectError(f"the training table: row {rows[0]}, column {column.name} {reason}.")
    return codes


def newest(days: np.ndarray, share: float) -> np.ndarray:
    """A mask of the newest rows, at most ``share`` of all; the rows of a day stay together."""
    last_of_training = np.sort(days)[int(np.ceil(len(days) * (1 - share))) - 1]
    return days > last_of_training


def _keys(checked: arrow.Checked) -> Iterable[str | bytes]:
    """Each row's key as text, whatever its type in the table; without a key, its features."""
    if checked.keys is None:
        return map(np.ndarray.tobytes, checked.matrix)
    return checked.keys.cast(pa.string()).to_pylist()


def _require_values(features: np.ndarray) -> None:
    """:raises ProjectError: a column has no value in any row to train on."""
    empty = np.isnan(features).all(axis=0)
    if names := [column.name for column, none in zip(CONTRACT.columns, empty, strict=True) if none]:
        raise ProjectError(
            f"the training table: the rows to train on have no value of {', '.join(names)}: fill "
            "it, or take it out of contract.py."
        )


def _require_classes(codes: np.ndarray, config: Training) -> None:
    """:raises ProjectError: a class that the contract allows has fewer rows than folds."""
    target = CONTRACT.target
    if not target.classes:
        return
    counts = np.bincount(codes.astype(int), minlength=target.classes)
    rare = [
        f"{counts[code] or 'no'} rows to train on have {target.name} "
        f"{target.decode(np.array([code]))[0]}"
        for code in np.flatnonzero(counts < config.folds)
    ]
    if rare:
        raise ProjectError(
            f"the training table: {', '.join(rare)}, fewer than training.folds = {config.folds}: "
            "bring more, or take it out of contract.py."
        )


def _share(key: str | bytes, seed: int) -> float:
    """A uniformly distributed number in [0, 1) that depends only on the key and the seed."""
    content = key.encode() if isinstance(key, str) else key
    digest = hashlib.blake2b(content, digest_size=8, salt=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") / 2**64
