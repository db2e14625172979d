"""The file of a run's rejected rows: which row, which column, which value, and why."""

import json
from collections.abc import Iterable
from typing import BinaryIO

from ..errors import ProjectError
from ..settings import portable
from ..tables.storage import folder
from .formats import merge_csv


class RejectedRows:
    """``<run id>.csv`` in the folder ``batch.rejected``; of a run that was refused, and never
    published, ``<run id>.failed.csv``. A file beside it says to which output the run writes.

    :raises ProjectError: a run of that id to another output has left its rows there.
    """

    def __init__(self, uri: str, run_id: str, output: str) -> None:
        self.folder, self.output = folder(uri), portable(output)
        self.published, self.failed = f"{run_id}.csv", f"{run_id}.failed.csv"
        self.owner = f".{run_id}.json"
        if (found := self._owner()) not in (None, self.output):
            taken = f"{self.folder}/{self.published} is of a run to {found}"
            raise ProjectError(f"{taken}: choose another run id.")

    def write(self, parts: Iterable[BinaryIO], failed: bool) -> str:
        """Put the rows of all parts there, and return where."""
        name = self.failed if failed else self.published
        if not failed:
            with self.folder.file(self.owner) as path:
                path.write_text(json.dumps({"output": self.output}), "utf-8")
        with self.folder.file(name) as path:
            merge_csv(parts, path)
        return f"{self.folder}/{name}"

    def remove(self, everything: bool) -> None:
        """Remove what a run that is published now leaves without meaning."""
        mine = [self.published, self.owner] if everything else []
        self.folder.remove([self.failed, *mine])

    def _owner(self) -> str | None:
        try:
            with self.folder.find(self.owner).open("rb") as file:
                return json.load(file)["output"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise ProjectError(f"{self.folder}/{self.owner} is damaged: remove it.") from None
