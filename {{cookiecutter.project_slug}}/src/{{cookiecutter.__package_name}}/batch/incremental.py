"""Incremental scoring: only the files, or the rows past a watermark, that were not scored yet."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..contract import CONTRACT
from ..errors import ProjectError
from ..settings import portable
from ..tables import reader
from ..tables.databases import identity, local_path, of_files, redacted
from ..tables.files import File, data_files
from ..tables.storage import CloudFolder, in_cloud
from .ledger import Ledger, text, window
from .sections import Window, sql_maximum


class Work(NamedTuple):
    """One run: its id, and the files or the window of rows that it claimed."""

    run_id: str
    paths: list[File]
    window: Window | None


def work(
    uri: str,
    column: str | None,
    ledger_uri: str,
    run_id: str,
    is_published: Callable[[str], bool],
) -> Iterator[Work]:
    """Yield the run that an interrupted call left open, then what is new, claimed as ``run_id``.

    A claim is marked as done when the caller asks for the next one: its predictions must be
    published by then.

    :param column: the watermark column of a table; None for the files of a folder.
    :param is_published: tells whether the predictions of a run, given by its id, are published.
    """
    if of_files(uri) != (column is None):
        raise ProjectError("--incremental takes a folder, or a table with --watermark COLUMN.")
    if (path := local_path(uri)) and not path.is_dir():
        raise ProjectError(f"{path} is no folder.")
    if column and column not in reader.sql_columns(uri):
        raise ProjectError(f"{redacted(uri)}: there is no column {column}.")
    there = {} if column else {_within(uri, file): file for file in data_files(uri)}
    # A portable name, so that a moved project does not score its input again.
    ledger = Ledger(ledger_uri, portable(identity(uri)))
    if column:
        ledger.require(column)
    if in_cloud(uri) and (list(there) == [""] or not (there or ledger.items())):
        raise ProjectError(f"{uri} is no folder that holds a file, or ever did.")
    claimed = ledger.unfinished()
    if claimed:
        gone = [item for item in claimed[1] if not column and item not in there]
        if gone and not is_published(claimed[0]):
            # These files are not scored yet: without a claim, they are scored when they come back.
            ledger.release(claimed[0], gone)
        left = _work(there, column, *claimed)
        if column or left.paths:
            yield left
        ledger.done(claimed[0])
    items, until = (
        _new_rows(ledger, uri, column) if column else (_new_files(ledger, uri, there), None)
    )
    if items:
        ledger.claim(run_id, items, until)
        yield _work(there, column, run_id, items, until)
        ledger.done(run_id)
    elif not claimed:
        print(f"Nothing new in {ledger.source}.")


def _within(uri: str, file: File) -> str:
    """The name of a file within its folder."""
    folder = str(local_path(uri) or CloudFolder(uri))
    return str(file).removeprefix(folder).lstrip("/")


def _work(there: dict, column: str | None, run_id: str, items: list[str], until) -> Work:
    if column:
        return Work(run_id, [], window(column, items[0], until))
    # A claimed file that no longer exists is skipped.
    return Work(run_id, [there[item] for item in items if item in there], None)


def _new_files(ledger: Ledger, uri: str, there: dict[str, File]) -> list[str]:
    known = ledger.items()
    new = {name: file for name, file in there.items() if name not in known}
    if new:
        # Checked before the claim: a file that cannot be scored can still be fixed or removed.
        for where, names in reader.column_names(uri, list(new.values())).items():
            CONTRACT.require(names, where)
    return list(new)


def _new_rows(ledger: Ledger, uri: str, column: str) -> tuple[list[str], str | None]:
    after = ledger.watermark()
    until = sql_maximum(uri, column, after)
    if until is None:
        return [], None
    return [text(after, column)], text(until, column)
