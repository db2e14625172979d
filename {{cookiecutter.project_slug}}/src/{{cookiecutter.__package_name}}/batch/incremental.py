"""Incremental scoring: only the files, or the rows past a watermark, that were not scored yet."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .. import settings
from ..contract import CONTRACT
from ..errors import ProjectError
from ..tables import reader
from ..tables.databases import identity, local_path, redacted
from ..tables.files import data_files
from . import parts
from .ledger import Ledger, text, window
from .parts import Window


class Work(NamedTuple):
    """One run: its id, and the files or the window of rows that it claimed."""

    run_id: str
    paths: list[Path]
    window: Window | None


def work(
    uri: str,
    column: str | None,
    ledger_uri: str,
    run_id: str,
    is_published: Callable[[str], bool],
) -> Iterator[Work]:
    """What an interrupted call has left, then what is new, claimed under ``run_id``.

    A claim counts as done when the caller asks for the next, so its predictions must be published
    by then.

    :param column: the watermark column of a table; None for the files of a folder.
    :param is_published: whether the predictions of a run are, by its id.
    """
    folder = local_path(uri)
    if (folder is None) != (column is not None):
        raise ProjectError("--incremental takes a folder, or a table with --watermark COLUMN.")
    if folder and not folder.is_dir():
        raise ProjectError(f"{folder} is no folder.")
    if column and column not in reader.sql_columns(uri):
        raise ProjectError(f"{redacted(uri)}: there is no column {column}.")
    # Inside the project without its folder: a moved project has scored what it has scored.
    ledger = Ledger(ledger_uri, identity(uri).replace(f"{settings.root()}/", "", 1))
    claimed = ledger.unfinished()
    if claimed:
        gone = [item for item in claimed[1] if folder and not (folder / item).exists()]
        if gone and not is_published(claimed[0]):
            # Not scored, and not to be left out when it comes back.
            ledger.release(claimed[0], gone)
        left = _work(folder, column, *claimed)
        if column or left.paths:
            yield left
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
        # A file that has gone since it was claimed has no rows to score.
        paths = [folder / item for item in items if (folder / item).exists()]
        return Work(run_id, paths, None)
    return Work(run_id, [], window(column, items[0], until))


def _new_files(ledger: Ledger, folder: Path) -> tuple[list[str], None]:
    known = ledger.items()
    paths = {path.relative_to(folder).as_posix(): path for path in data_files(folder)}
    new = {name: path for name, path in paths.items() if name not in known}
    if new:
        # Before they are claimed: what cannot be scored can still be mended or taken away.
        for where, names in reader.column_names(str(folder), list(new.values())).items():
            CONTRACT.require(names, where)
    return list(new), None


def _new_rows(ledger: Ledger, uri: str, column: str) -> tuple[list[str], str | None]:
    after, until = ledger.watermark(), parts.sql_maximum(uri, column)
    try:
        if until is None or (after is not None and until <= after):
            return [], None
    except TypeError:
        problem = f"{column} is of another type than the watermark so far, {after!r}."
        raise ProjectError(f"{ledger.source}: {problem}") from None
    return [text(after)], text(until)
