"""Incremental scoring: only the files, or the rows past a watermark, that were not scored yet."""

from dataclasses import replace
from pathlib import Path

from . import tables
from .batch import Request, new_run_id, score
from .errors import ProjectError
from .ledger import Ledger, text, window
from .settings import Settings


def score_new(request: Request, column: str | None, config: Settings) -> None:
    """Finish what an interrupted call has claimed, then claim and score what is new.

    :param column: the watermark column of a table; None for files.
    """
    folder = tables.local_path(request.input)
    if (folder is None) != (column is not None):
        raise ProjectError("--incremental takes a folder, or a table with --watermark COLUMN.")
    if request.run_id or request.force:
        raise ProjectError("--incremental chooses its own run ids: leave --run-id and --force out.")
    if Path(request.output).suffix in tables.READERS:
        raise ProjectError("--incremental adds to its output: give a folder or a table.")
    ledger = Ledger(config.batch.database, tables.redacted(request.input))
    if unfinished := ledger.unfinished():
        _score_claim(ledger, request, column, config, *unfinished)
    new = _new_rows(ledger, request.input, column) if column else _new_files(ledger, folder)
    items, until = new
    if not items:
        print(f"Nothing new in {ledger.source}.")
        return
    run_id = new_run_id()
    ledger.claim(run_id, items, until)
    _score_claim(ledger, request, column, config, run_id, items, until)


def _score_claim(ledger, request, column, config, run_id, items, until) -> None:
    request = replace(request, run_id=run_id)
    if column:
        score(request, config, [], window(column, items[0], until))
    else:
        folder = tables.local_path(request.input)
        score(request, config, [folder / item for item in items])
    ledger.done(run_id)


def _new_files(ledger: Ledger, folder: Path) -> tuple[list[str], None]:
    if not folder.is_dir():
        raise ProjectError(f"{folder} is no folder.")
    names = [path.relative_to(folder).as_posix() for path in tables.data_files(folder)]
    known = ledger.items()
    return [name for name in names if name not in known], None


def _new_rows(ledger: Ledger, uri: str, column: str) -> tuple[list[str], str | None]:
    after, until = ledger.watermark(), tables.sql_maximum(uri, column)
    if until is None or (after is not None and until <= after):
        return [], None
    return [text(after)], text(until)
