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
    """``<run id>.csv`` in the folder ``batch.rejected``, or ``<run id>_failed.csv`` for a run that
    is not published because it has too many rejected rows.

    For another output than the ``usual`` one, a hash of the output follows the run id, such as
    ``<run id>_1a2b3c4d.csv``. The run id itself has no underscore.

    :raises ProjectError: a file of that name has other content.
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
        """Merge the rejected rows of all parts into the file; returns its path or URI."""
        name = self.failed if failed else self.published
        with self.folder.file(name) as path:
            merge_csv(parts, path)
        return f"{self.folder}/{name}"

    def remove(self, everything: bool) -> None:
        """After a run is published, remove files that no longer apply; errors are ignored."""
        with suppress(OSError, ProjectError):
            self.folder.remove([self.failed, *([self.published] if everything else [])])
