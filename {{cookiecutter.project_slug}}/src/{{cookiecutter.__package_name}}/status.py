"""The command ``status``: what runs here, how it went last, and what is due next."""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import sqlalchemy as sa

from . import settings
from .contract import CONTRACT
from .errors import ProjectError, brief
from .models import stores
from .pipelines.definition import pipelines
from .pipelines.records import last_steps
from .settings import Settings
from .tables.databases import connect, exists, redacted
from .tables.migrate import problem, version
from .tables.monitored import newest_metrics, open_alerts, utc

# Columns whose drift is shown, the largest first.
DRIFTS = 3
# How long Prometheus may take, and its longest answer.
SECONDS, MOST_BYTES = 10, 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    found = gather(settings.load())
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print(*_lines(found), sep="\n")
    return 0


def gather(config: Settings, seconds: float | None = None) -> dict[str, Any]:
    """The state of everything, as JSON values; what cannot be known is a sentence in ``problems``.

    :param seconds: how long the database may take.
    """
    found: dict[str, Any] = {
        "project": settings.PACKAGE,
        "environment": settings.environment(),
        "time": _iso(datetime.now(UTC)),
        "contract": CONTRACT.version,
        "model": None,
        "pipelines": [],
        "windows": [],
        "alerts": [],
        "budgets": {},
        "problems": [],
    }
    for part in (_model, _database, _pipelines, _budgets):
        try:
            part(found, config, seconds)
        except ProjectError as error:
            found["problems"].append(str(error))
    return found


def _model(found: dict, config: Settings, _) -> None:
    known = stores.known(config.models.uri, config)
    uri = settings.portable(stores.named(config.models.uri))
    names = ("version", "alias", "trained_at", "sha256")
    found["model"] = {"uri": uri} | {name: known.get(name) for name in names}


def _database(found: dict, config: Settings, seconds: float | None) -> None:
    """Windows and alerts; ``steps`` are the last ones of each pipeline."""
    found["steps"] = {}
    if not exists(config.database):
        return
    with connect(config.database, seconds=seconds) as connection:
        at = version(connection, config.database)
        if at is None:
            return
        if wrong := problem(at):
            raise ProjectError(f"database: {wrong}")
        found["steps"] = last_steps(connection)
        found["alerts"] = [_alert(each) for each in open_alerts(connection)]
        found["windows"] = list(_windows(newest_metrics(connection)))


def _alert(row: sa.Row) -> dict:
    names = ("severity", "source", "kind", "subject", "evidence", "runbook")
    return {name: getattr(row, name) for name in names} | {"since": _iso(row.opened_at)}


def _windows(rows: list[sa.Row]) -> Iterator[dict]:
    """The newest window of each source and version: its metrics, and the largest drifts."""
    versions = dict.fromkeys((each.source, each.model_version) for each in rows)
    counted = {source for source, name in versions if name}
    for source, name in [each for each in versions if each[1] or each[0] not in counted]:
        mine = [each for each in rows if (each.source, each.model_version) == (source, name)]
        measured = [each for each in mine if each.kind in ("performance", "business")]
        drift = sorted((each for each in mine if each.name == "psi"), key=lambda each: -each.value)
        yield {
            "source": source,
            "version": name,
            "start": _iso(mine[0].window_start),
            "end": _iso(mine[0].window_end),
            "rows": sum(each.rows for each in mine if each.name == "labelled_share"),
            "metrics": {each.name: each.value for each in measured},
            "drift": {each.subject: each.value for each in drift[:DRIFTS]},
        }


def _pipelines(found: dict, config: Settings, _) -> None:
    """The last run of each pipeline, and when the next one is due."""
    steps, now = found.pop("steps", {}), datetime.now(UTC)
    for name, pipeline in pipelines(config).items():
        last, due = steps.get(name), pipeline.next(now)
        run = last and {
            "run_id": last[0].run_id,
            "started": _iso(last[0].started_at),
            "failed": [each.step for each in last if each.exit_code],
            "running": [each.step for each in last if each.exit_code is None],
        }
        found["pipelines"].append({"name": name, "last": run, "next": due and _iso(due)})


def _budgets(found: dict, config: Settings, seconds: float | None) -> None:
    """The share of each objective's error budget that is left, as Prometheus has recorded it."""
    url = config.monitoring.prometheus
    if not url:
        return
    series = 'slo:period_error_budget_remaining:ratio{sloth_service="' + settings.PACKAGE + '"}'
    query = f"{url.rstrip('/')}/api/v1/query?{urlencode({'query': series})}"
    try:
        with urlopen(query, timeout=seconds or SECONDS) as answer:  # noqa: S310 - see settings.py
            series = json.loads(answer.read(MOST_BYTES))["data"]["result"]
        found["budgets"] = {each["metric"]["sloth_slo"]: float(each["value"][1]) for each in series}
    except (OSError, HTTPException, LookupError, TypeError, ValueError) as error:
        raise ProjectError(f"{redacted(url)} tells no error budgets: {brief(error)}.") from None


def _iso(time: datetime) -> str:
    return utc(time).isoformat(timespec="seconds")


def _lines(found: dict) -> Iterator[str]:
    """The state as text, one screen."""
    yield f"{found['project']}, {found['environment']}, {short(found['time'])} UTC"
    model = found["model"]
    yield f"\nModel: version {model['version']}, {model['uri']}" if model else "\nModel: none"
    yield "\nPipelines:"
    for each in found["pipelines"]:
        due = f"next {short(each['next'])}" if each["next"] else "not scheduled"
        yield f"  {each['name']:<12}{due}; {told(each['last'])}"
    yield "\nNewest windows:" if found["windows"] else "\nNewest windows: none; see `monitor`"
    for each in found["windows"]:
        period = f"{short(each['start'])} to {short(each['end'])}"
        which = f"version {each['version']}, {each['rows']:,}" if each["rows"] else "no"
        yield f"  {each['source']:<6}{period}: {which} predictions"
        yield from (f"    {name:<20}{value:.4f}" for name, value in each["metrics"].items())
        yield from (f"    {name:<20}PSI {value:.2f}" for name, value in each["drift"].items())
    if found["budgets"]:
        yield "\nError budgets, what is left of 30 days:"
    yield from (f"  {name:<14}{left:.1%}" for name, left in found["budgets"].items())
    yield f"\nOpen alerts: {len(found['alerts']) or 'none'}"
    for each in found["alerts"]:
        yield f"  {each['severity']}, {short(each['since'])}, {each['source']}: {each['evidence']}"
    yield from (f"\nNot known: {problem}" for problem in found["problems"])


def told(run: dict | None) -> str:
    """How a run of a pipeline went."""
    if run is None:
        return "has not run yet"
    when = f"last {short(run['started'])}"
    if run["failed"]:
        return f"{when}: {', '.join(run['failed'])} failed"
    if run["running"]:
        return f"{when}: {', '.join(run['running'])} is running, or was killed"
    return f"{when}: done"


def short(time: str) -> str:
    return time[:16].replace("T", " ")
