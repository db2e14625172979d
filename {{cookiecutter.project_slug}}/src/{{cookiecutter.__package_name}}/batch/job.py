"""The batch job: one run, or the runs that an incremental call needs.

A run has an id. Once its predictions are published, the same id does nothing. A run that was killed
has published nothing: the same id starts it again. A lock keeps two processes off the same run.
"""

import argparse
import json
import logging
import re
import secrets
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from .. import settings
from ..errors import ProjectError
from ..models import stores
from ..settings import Settings, portable
from ..tables.databases import identity, of_files, redacted
from ..tables.files import File, files, format_of
from ..tables.locks import only_one
from .formats import head
from .outputs import open_output
from .rejected import RejectedRows
from .run import Run
from .sections import Window

log = logging.getLogger(__name__)
NOT_SHOWN = ("source", "model_version", "run_id", "predicted_at")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")


@dataclass(frozen=True)
class Request:
    """What to score, with which model, and where to put it."""

    input: str
    output: str
    model: str
    format: str = "parquet"
    run_id: str | None = None
    force: bool = False
    raw: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    where = "parquet or csv file, folder of them, also in the cloud, or SQLAlchemy URL#TABLE"
    add("--input", type=_given, metavar="URI", help=f"{where} or URL#QUERY (default: batch.input)")
    add("--output", type=_given, metavar="URI", help=f"{where} (default: batch.output)")
    add(
        "--model",
        type=_given,
        metavar="URI",
        help="a connection string (default: models.uri)",
    )
    add("--format", choices=["parquet", "csv"], default="parquet", help="of the files in a folder")
    add(
        "--run-id",
        type=_given,
        metavar="ID",
        help="the same id again does nothing (default: a new one)",
    )
    add("--engine", choices=["local", "spark"], help="what scores (default: batch.engine)")
    add("--master", type=_given, metavar="URL", help="of Spark (default: batch.master)")
    add("--force", action="store_true", help="repeat a run that was published already")
    add("--raw", action="store_true", help="prepare() of data.py comes first (default: batch.raw)")
    add("--incremental", action="store_true", help="only files or rows not scored before")
    add("--show", type=_count, default=0, metavar="N", help="print the first N predictions")
    add(
        "--watermark",
        type=_given,
        metavar="COLUMN",
        help="of a table: rows beyond its last value are new",
    )


def _given(text: str) -> str:
    """An option's value; empty text, as from an unset variable, is refused, not ignored."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be 0 or more")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    config = _engine(settings.load(), arguments)
    request = Request(
        settings.absolute(arguments.input or config.batch.input, Path.cwd()),
        settings.absolute(arguments.output or config.batch.output, Path.cwd()),
        stores.typed(arguments.model) if arguments.model else config.models.uri,
        arguments.format,
        arguments.run_id,
        arguments.force,
        arguments.raw or config.batch.raw,
    )
    if request.raw and arguments.incremental:
        raise ProjectError("--raw, or batch.raw, goes without --incremental.")
    if arguments.show and (arguments.incremental or not of_files(request.output)):
        raise ProjectError("--show goes with one run that writes files.")
    if arguments.incremental:
        score_new(request, arguments.watermark, config)
    elif arguments.watermark:
        raise ProjectError("--watermark goes with --incremental.")
    else:
        manifest = score(request, config)
        if arguments.show:
            show(request, manifest, arguments.show)
    return 0


def _engine(config: Settings, arguments: argparse.Namespace) -> Settings:
    """The settings with the engine of the command line."""
    chosen = {"engine": arguments.engine, "master": arguments.master}
    given = {name: value for name, value in chosen.items() if value}
    batch = config.batch.model_copy(update=given)
    if arguments.master and batch.engine != "spark":
        raise ProjectError("--master goes with --engine spark.")
    return config.model_copy(update={"batch": batch})


def score_new(request: Request, column: str | None, config: Settings) -> None:
    """Score what is not scored yet: in one run, or in two if an earlier run was interrupted."""
    from .incremental import work

    if request.run_id or request.force:
        raise ProjectError("--incremental chooses its own run ids: leave --run-id and --force out.")
    if format_of(Path(request.output)):
        raise ProjectError("--incremental adds to its output: give a folder or a table.")
    output = open_output(request.output, request.format, Path(config.batch.work))
    found = work(
        request.input,
        column,
        config.database,
        new_run_id(),
        lambda run_id: output.published(run_id) is not None,
    )
    for run_id, paths, window in found:
        score(replace(request, run_id=run_id), config, paths, window)


def show(request: Request, manifest: dict, count: int) -> None:
    """Print the first predictions of a run that wrote files."""
    output = open_output(request.output, request.format, Path())
    for row in head(output.first(manifest), count):
        shown = {name: value for name, value in row.items() if name not in NOT_SHOWN}
        print("    " + "  ".join(f"{name} {value}" for name, value in shown.items()))


def score(
    request: Request,
    config: Settings,
    paths: list[File] | None = None,
    window: Window | None = None,
) -> dict:
    """One run from input to published predictions; returns its manifest.

    :param paths: the input's files to score, all of them if None.
    :raises ProjectError: nothing was published; the same run can be started again.
    """
    work, began = Path(config.batch.work), time.perf_counter()
    output = open_output(request.output, request.format, work)
    run_id = request.run_id or new_run_id()
    if not RUN_ID.fullmatch(run_id):
        problem = "use at most 100 letters, digits, dots and hyphens, a letter or digit first"
        raise ProjectError(f"run id {run_id[:100]!r}: {problem}.")
    with only_one(run_id, output.locks, f"run {run_id}"):
        published = output.published(run_id)
        if published and published["input"]["uri"] != portable(identity(request.input)):
            taken = f"run id {run_id} is taken, by {published['input']['uri']}"
            raise ProjectError(f"{taken}: choose another.")
        if published and not request.force:
            print(f"Run {run_id} was published already; --force repeats it.")
            return published
        paths = files(request.input) if paths is None else paths
        _keep_apart(paths, request, config.batch.rejected)
        usual = request.output == config.batch.output
        rejected = RejectedRows(config.batch.rejected, run_id, str(output), usual)
        model = stores.load_model(request.model, config)
        run = Run(
            run_id,
            request.input,
            paths,
            window,
            output,
            rejected,
            request.model,
            model,
            config,
            request.raw,
        )
        manifest = run.execute()
    _report(manifest, time.perf_counter() - began)
    return manifest


def _report(manifest: dict, seconds: float) -> None:
    rows = manifest["rows"]
    log.info("run: %s", json.dumps(manifest))
    print(
        f"Run {manifest['run_id']}: {rows['read']:,} rows read, {rows['predicted']:,} predicted, "
        f"{rows['rejected']:,} rejected in {seconds:.1f} s with "
        f"{manifest['model']['name']} version {manifest['model']['version']}\n"
        f"  predictions: {manifest['output']}"
        + (f"\n  rejected:    {manifest['rejected']}" if manifest["rejected"] else "")
    )


def new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _keep_apart(paths: list[File], request: Request, rejected: str) -> None:
    """Refuse an output that would replace its own input, or be read as input the next time."""
    places = (request.input, request.output, rejected)
    source, output, rejected = (f"{uri.rstrip('/')}/" for uri in places)
    real = [str(path.resolve() if isinstance(path, Path) else path) for path in paths]
    both = [path for path in real if f"{path}/".startswith(output)]
    both += [uri for uri in (output, rejected) if paths and uri.startswith(source)]
    if both or source == output:
        named = redacted((both or [output])[0].rstrip("/"))
        raise ProjectError(f"{named} is both input and output: choose another output.")
    if output.startswith(rejected):
        raise ProjectError(f"{request.output} is among the rejected rows: choose another output.")
