"""Incremental scoring: only the files, or the rows past a watermark, that were not scored yet."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import tables
from .errors import ProjectError
from .ledger import Ledger, text, window
from .tables import Window


class Work(NamedTuple):
    """One run: its id, and the files or the window of rows that it claimed."""

    run_id: str
    paths: list[Path]
    window: Window | None


def work(uri: str, column: str | None, ledger_uri: str, run_id: str) -> Iterator[Work]:
    """What an interrupted call has left, then what is new, claimed under ``run_id``.

    A claim counts as done when the caller asks for the next, so its predictions must be published
    by then.

    :param column: the watermark column of a table; None for the files of a folder.
    """
    folder = tables.local_path(uri)
    if (folder is None) != (column is not None):
        raise ProjectError("--incremental takes a folder, or a table with --watermark COLUMN.")
    if folder and not folder.is_dir():
        raise ProjectError(f"{folder} is no folder.")
    ledger = Ledger(ledger_uri, tables.redacted(uri))
    claimed = ledger.unfinished()
    if claimed:
        yield _work(folder, column, *claimed)
        ledger.done(claimed[0])
    items, until = _new_files(ledger, folder) if folder else _new_rows(ledger, uri, column)
    if items:
        ledger.claim(run_id, items, until)
        yield _work(folder, column, run_id, items, until)
        ledger.done(run_id)
    elif not claimed:
        print(f"Nothing new in {ledger.source}.")


def _work(folder, column, run_id: str, items: list[str], until: str | None) -> Work:
    if folder:
        return Work(run_id, [folder / item for item in items], None)
    return Work(run_id, [], window(column, items[0], until))


def _new_files(ledger: Ledger, folder: Path) -> tuple[list[str], None]:
    names = [path.relative_to(folder).as_posix() for path in tables.data_files(folder)]
    known = ledger.items()
    return [name for name in names if name not in known], None


def _new_rows(ledger: Ledger, uri: str, column: str) -> tuple[list[str], str | None]:
    after, until = ledger.watermark(), tables.sql_maximum(uri, column)
    if until is None or (after is not None and until <= after):
        return [], None
    return [text(after)], text(until)
