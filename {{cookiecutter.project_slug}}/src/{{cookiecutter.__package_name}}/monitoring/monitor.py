"""The command ``monitor``: metrics and alerts for a window of predictions."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .. import settings
from ..errors import ProjectError
from ..pipelines.gauges import publish
from ..settings import Settings
from ..tables.locks import only_one
from ..tables.monitored import open_alerts
from . import checks
from .look import Looked, look
from .predictions import Source, sources
from .records import Period, database, is_newest, save_alerts, save_metrics
from .report.page import write

# How long to wait for another process that monitors.
LOCK_SECONDS = 60
UNITS = {"d": "days", "h": "hours"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--window",
        metavar="7d|RUN|FROM..TO",
        help="the last days or hours, one batch run, or two dates (default: monitoring.window)",
    )
    parser.add_argument(
        "--until", metavar="DATE", help="end of a window of days or hours (default: now)"
    )
    parser.add_argument("--exit-code", action="store_true", help="1 if an alert is open afterwards")


def run(arguments: argparse.Namespace) -> int:
    config = settings.load()
    with only_one("monitor", Path(config.pipelines.work), "monitor", LOCK_SECONDS):
        return monitor(arguments, config)


def monitor(arguments: argparse.Namespace, config: Settings) -> int:
    """Look at each source, judge and report; returns the exit code."""
    window, found, problems = arguments.window or config.monitoring.window, [], []
    before = _open_alerts(config)
    for source in sources(config):
        try:
            if period := period_of(window, arguments.until, source):
                found.append(look(source, period, config))
                judge(found[-1], config)
                save(found[-1], config)
                show(found[-1])
        except ProjectError as problem:  # the other source may be well
            problems.append(str(problem))
    if not found:
        known = "7d, 12h, FROM..TO, or the id of a batch run"
        raise ProjectError("; ".join(problems) or f"--window {window}: give {known}.")
    alerts = _open_alerts(config)
    closed = len({each.id for each in before} - {each.id for each in alerts})
    print(f"{len(alerts)} alert{' is' if len(alerts) == 1 else 's are'} open, {closed} closed now.")
    for each in alerts:
        print(f"  {each.severity} since {each.opened_at:%F} ({each.source}): {each.evidence}")
    print(f"Report: {settings.portable(write(found, alerts, _place(found, config), config))}")
    if textfile := config.monitoring.textfile:
        publish(config.database, settings.absolute(textfile, settings.root()))
    if problems:
        raise ProjectError("; ".join(problems))
    return 1 if alerts and arguments.exit_code else 0


def _place(found: list[Looked], config: Settings) -> str:
    """Where the report goes; that of an older window, or of a run, does not replace the newest."""
    if any(each.judged for each in found):
        return config.monitoring.report
    stem, _, ending = config.monitoring.report.rpartition(".")
    period = found[0].period
    return f"{stem}-{period.run or f'{period.end:%Y%m%dT%H%M}'}.{ending}"


def _open_alerts(config: Settings) -> list:
    with database(config.database) as connection:
        return open_alerts(connection)


def now() -> datetime:
    return datetime.now(UTC)


def period_of(window: str, until: str | None, source: Source) -> Period | None:
    """The period that an option names, up to now at most.

    None if it names a batch run, and the source has no runs.

    :raises ProjectError: it names nothing.
    """
    if found := re.fullmatch(r"([1-9]\d{0,4})([dh])", window):
        end = min(_time(until), now()) if until else now()
        return Period(end - timedelta(**{UNITS[found[2]]: int(found[1])}), end)
    if until:
        raise ProjectError("--until goes with a window of days or hours, such as 7d.")
    first, dots, last = window.partition("..")
    if not dots:
        of_run = getattr(source, "period_of", None)
        return of_run(window) if of_run else None
    period = Period(_time(first), min(_time(last), now()))
    if period.start >= period.end:
        raise ProjectError(f"--window {window}: the start is not before the end, or in the future.")
    return period


def _time(text: str) -> datetime:
    """A date or time in ISO 8601, in UTC if it names no time zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        problem = "is no date or time, such as 2026-11-30 or 2026-11-30T06:00:00+01:00"
        raise ProjectError(f"{text!r} {problem}.") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def judge(looked: Looked, config: Settings) -> None:
    """Add the verdicts."""
    looked.verdicts = [*checks.judge_quality(looked.metrics, config)]
    for each in looked.versions:
        each.verdicts = [
            *checks.judge_quality(each.metrics, config),
            *checks.judge_performance(each.metrics, config.training, config.monitoring),
            *checks.judge_drift(each.drifts, config.monitoring),
        ]


def save(looked: Looked, config: Settings) -> None:
    """Save the metrics; if no later window was looked at before, also open and close alerts."""
    found = {each.version: each.verdicts for each in looked.versions} | {"": looked.verdicts}
    metrics = [(each.version, metric) for each in looked.versions for metric in each.metrics]
    metrics += [("", metric) for metric in looked.metrics]
    with database(config.database) as connection:
        looked.judged = not looked.period.run and is_newest(
            connection, looked.source, looked.period
        )
        save_metrics(connection, looked.source, looked.period, metrics)
        if looked.judged:
            unknown = {(each.version, kind) for each in looked.versions for kind in each.unknown}
            save_alerts(connection, looked.source, found, unknown)


def show(looked: Looked) -> None:
    """Print what was found, a few lines for each version."""
    print(f"{looked.source}: {looked.period}")
    if not looked.judged:
        print(
            "  It opens and closes no alert: that is for the newest window, not for a single run."
        )
    if not looked.versions:
        print("  There are no predictions in this window.")
    for version in looked.versions:
        print(f"  version {version.version}: {version.rows:,} predictions")
        for metric in version.metrics:
            if metric.kind in ("performance", "business"):
                interval = "" if metric.low is None else f" ({metric.low:.4f} to {metric.high:.4f})"
                print(f"    {metric.name:<20} {metric.value:.4f}{interval}")
        for drift in version.drifts[:1]:
            shown = f"PSI {drift.psi:.2f}, p-value {drift.p:.2g}"
            print(f"    The largest drift is that of {drift.subject}: {shown}.")
        for note in version.notes:
            print(f"    {note}")
