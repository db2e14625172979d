"""The command ``run``: the steps of a pipeline for one data interval.

A step that fails is tried again. If it still fails, the steps that need it are skipped.
"""

import argparse
import logging
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_exponential

from .. import settings
from ..errors import ProjectError
from ..settings import Settings
from ..tables.locks import only_one
from .definition import Interval, Step, names, pipelines
from .gauges import publish
from .processes import INTERRUPTED, TIMED_OUT, on_end, once
from .records import write

# Seconds before the second try, and at most; each wait is twice the one before.
FIRST_WAIT, LONGEST_WAIT = 10, 300
OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("pipeline", metavar="PIPELINE", help="its name; docs/pipelines.md lists them")
    add("--date", metavar="DATE", help="run what was due last on this day, or until this time")
    add("--from", dest="first", metavar="STEP", help="leave out the steps before this one")


def run(arguments: argparse.Namespace) -> int:
    config = settings.load()
    known = pipelines(config)
    name = _known("pipeline", arguments.pipeline, list(known))
    steps = known[name].order()
    first = _known("step", arguments.first or steps[0].name, names(steps))
    interval = known[name].interval(moment(arguments.date, ZoneInfo(known[name].timezone)))
    steps = [interval.fill(step) for step in steps[names(steps).index(first) :]]
    lock = only_one(f"pipeline-{name}", Path(config.pipelines.work), f"pipeline {name}")
    with lock, on_end(signal.default_int_handler):
        _say(f"Run {interval.run_id}, from {interval.start} to {interval.end}")
        failed = _execute(steps, interval, config.database)
        _publish(config)
    if not failed:
        return 0
    step, how = next(iter(failed.items()))
    again = _typed(
        "run", name, "--date", interval.now.isoformat(timespec="seconds"), "--from", step
    )
    print(f"step {step} of pipeline {name} {how}; resume with: {again}", file=sys.stderr)
    return 1


def _publish(config: Settings) -> None:
    """Write the gauges; the steps are done, whether or not that succeeds."""
    if textfile := config.monitoring.textfile:
        try:
            publish(config.database, settings.absolute(textfile, settings.root()))
        except ProjectError as error:
            print(f"warning: {error}", file=sys.stderr)


def _known(what: str, name: str, those: Sequence[str]) -> str:
    if name not in those:
        raise ProjectError(f"there is no {what} {name!r}; known are: {', '.join(those)}.")
    return name


def moment(given: str | None, zone: ZoneInfo) -> datetime:
    """The time that ``--date`` means: of a day its end, but never later than now."""
    now = datetime.now(zone)
    try:
        begin = end = datetime.fromisoformat(given) if given is not None else now
    except ValueError:
        form = "give a date such as 2026-11-30, or a time such as 2026-11-30T05:00"
        raise ProjectError(f"--date {given!r}: {form}.") from None
    with suppress(TypeError, ValueError):
        end = datetime.combine(date.fromisoformat(given), time.max)
    begin, end = (each if each.tzinfo else each.replace(tzinfo=zone) for each in (begin, end))
    if not OLDEST <= begin <= now:
        raise ProjectError(f"--date {given}: give a time between 1970 and now.")
    return min(end, now)


def _execute(steps: list[Step], interval: Interval, database: str) -> dict[str, str]:
    """Run the steps; returns how they failed, by the names of those that did."""
    failed, skipped = {}, set()
    for step in steps:
        if needed := (skipped | failed.keys()).intersection(step.needs):
            skipped.add(step.name)
            _say(f"{step.name}: skipped, because it needs {min(needed)}")
            continue
        row = _step(step, interval, database)
        code, tries = row["exit_code"], row["tries"]
        how = f"a time-out of {step.timeout} s" if code == TIMED_OUT else f"exit code {code}"
        how = f"failed with {how} after {tries} {'try' if tries == 1 else 'tries'}"
        seconds = (row["finished_at"] - row["started_at"]).total_seconds()
        _say(f"{step.name}: {how if code else 'done'} in {seconds:.1f} s")
        if code:
            failed[step.name] = how
    return failed


def _step(step: Step, interval: Interval, database: str) -> dict:
    """Try a step until it succeeds, or until no try is left; returns its row of the record."""
    row = {"run_id": interval.run_id, "pipeline": interval.pipeline, "step": step.name}
    row["started_at"] = datetime.now(UTC)
    _record(database, row)
    retrying = Retrying(
        stop=stop_after_attempt(1 + step.retries),
        wait=wait_exponential(FIRST_WAIT, LONGEST_WAIT),
        retry=retry_if_result(lambda code: code not in (0, INTERRUPTED)),
        retry_error_callback=lambda state: state.outcome.result(),
    )
    row["exit_code"] = INTERRUPTED
    try:
        row["exit_code"] = retrying(once, step.command, step.timeout, f"run {interval.run_id}")
    finally:
        row["tries"] = retrying.statistics["attempt_number"]
        row["finished_at"] = datetime.now(UTC)
        _record(database, row)
    return row


def _record(database: str, row: dict) -> None:
    """Write the row of a step; a database that is down does not stop the step."""
    try:
        write(database, row)
    except ProjectError as problem:
        print(f"step {row['step']} is not recorded: {problem}", file=sys.stderr)


def _say(line: str) -> None:
    print(line, flush=True)  # before the output of the next step
    log.info(line)


def _typed(*words: str) -> str:
    """A command of this project, as a user types it."""
    chosen = settings.environment()
    prefix = "" if chosen == "nonprod" else f"ENVIRONMENT={shlex.quote(chosen)} "
    return f"{prefix}python -m {settings.PACKAGE} {shlex.join(words)}"
