"""The file of a run's rejected rows: which row, which column, which value, and why."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO

from ..errors import ProjectError
from ..settings import portable
from ..tables.storage import folder
from .formats import merge_csv

HEADER = b'"source",'


class RejectedRows:
    """``<run id>.csv`` in the folder ``batch.rejected``; of a run that was refused, and not
    published, ``<run id>_failed.csv``.

    Of another output than the ``usual`` one, what tells it apart stands behind the run id, which
    has no underscore itself.

    :raises ProjectError: something else is there.
    """

    def __init__(self, uri: str, run_id: str, output: str, usual: bool) -> None:
        self.folder = folder(uri)
        of_output = hashlib.sha256(portable(output).encode()).hexdigest()[:8]
        name = run_id if usual else f"{run_id}_{of_output}"
        self.published, self.failed = f"{name}.csv", f"{name}_failed.csv"
        for each in (self.published, self.failed):
            with suppress(FileNotFoundError), self.folder.find(each).open("rb") as file:
                if not file.readline().startswith(HEADER):
                    what = "holds no rejected rows: choose another batch.rejected or run id"
                    raise ProjectError(f"{self.folder}/{each} {what}.")

    def write(self, parts: Iterable[BinaryIO], failed: bool) -> str:
        """Put the rows of all parts there, and return where."""
        name = self.failed if failed else self.published
        with self.folder.file(name) as path:
            merge_csv(parts, path)
        return f"{self.folder}/{name}"

    def remove(self, everything: bool) -> None:
        """Remove what a run that is published now leaves without meaning, if that is possible."""
        with suppress(OSError, ProjectError):
            self.folder.remove([self.failed, *([self.published] if everything else [])])
