"""The report of ``monitor``: one HTML file without scripts, which needs nothing from elsewhere."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa
from jinja2 import Environment, PackageLoader, StrictUndefined

from ...contract import CONTRACT
from ...settings import PACKAGE, Settings
from ...tables.monitored import utc
from ...tables.storage import folder
from ..checks import judge_drift, judge_performance, judge_quality
from ..drift import PREDICTION, Drift
from ..look import Looked, OfVersion
from ..records import database
from .changes import NAMED, Window, by_key, changes, earlier, number, percent
from .charts import Bar, Course, bars

# Columns with a chart, further columns by name, and columns in the table of data quality.
CHARTS, LISTED, LOST = 20, 500, 20
NAMES = {"batch": "Batch job", "api": "API"}
QUALITY = {
    "predictions": ("Predictions", "{:,.0f}".format),
    "volume_ratio": ("Predictions, compared with before", "{:.2f} ×".format),
    "age_hours": ("Age of the newest prediction", "{:,.1f} h".format),
    "labelled_share": ("Predictions with a label", percent),
    "rejected_share": ("Rejected rows", percent),
    "duplicate_share": ("Rows that repeat a key", percent),
}


class Chart(NamedTuple):
    """The drift of a column; ``severity`` is None if there are too few rows to judge it."""

    title: str
    drift: Drift
    severity: str | None
    bars: list[Bar]


class Fact(NamedTuple):
    """A row of the table of data quality."""

    what: str
    now: str
    before: str = ""
    limit: str = ""
    severity: str = ""


class Section(NamedTuple):
    """What the page shows of a source, about the version that predicted last.

    ``drifts`` are those without a chart.
    """

    looked: Looked
    newest: OfVersion
    before: Window | None
    changes: list[str]
    courses: list[Course]
    charts: list[Chart]
    drifts: list[Drift]
    quality: list[Fact]


def write(looked: list[Looked], alerts: list[sa.Row], place: str, config: Settings) -> str:
    """Write the report, whole or not at all; returns its place.

    :param alerts: the open ones, the worst first.
    :param place: a path, or a URI of cloud storage.
    """
    with database(config.database) as connection:
        windows = [earlier(connection, each) for each in looked]
    sections = [_section(*each, config) for each in zip(looked, windows, strict=True)]
    worst = [each.source for each in alerts]
    sections.sort(key=lambda each: [*worst, each.looked.source].index(each.looked.source))
    loader = PackageLoader(PACKAGE, "monitoring/report")
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    pages = Environment(loader=loader, autoescape=True, **options)
    pages.filters |= {"number": number, "percent": percent, "utc": utc}
    pages.globals |= {"names": NAMES, "listed": LISTED}
    text = pages.get_template("page.html").render(
        project=PACKAGE.replace("_", " ").capitalize(),
        production=config.production,
        verdict=verdict(sections, alerts, config),
        alerts=alerts,
        sections=sections,
        written=datetime.now(UTC),
    )
    parent, _, name = place.replace("\\", "/").rpartition("/")
    with folder(parent).file(name) as path:
        path.write_text(text, "utf-8")
    return place


def verdict(sections: list[Section], alerts: list[sa.Row], config: Settings) -> str:
    """What is wrong, and what is not known, in plain sentences."""
    found, unknown = [each for each in sections if each.looked.versions], []
    for section in found:
        where = f" ({NAMES[section.looked.source]})" if len(found) > 1 else ""
        labels = max((each.now.rows for each in section.courses), default=0)
        if labels < config.monitoring.minimum_labels:
            few = f"only {labels:,} predictions have" if labels else "no prediction has"
            unknown.append(f"The quality of the model is not known{where}: {few} a label.")
        if not section.newest.drifts:
            unknown.append(f"Drift is not known{where}; the notes say why.")
    if not found:
        unknown.append("There are no predictions in this window.")
    if alerts:
        names = ", ".join(f"{each.subject or each.name} ({each.kind})" for each in alerts[:NAMED])
        more = f" and {len(alerts) - NAMED:,} more" if len(alerts) > NAMED else ""
        count = "1 alert is" if len(alerts) == 1 else f"{len(alerts):,} alerts are"
        return " ".join([f"{count} open: {names}{more}.", *unknown])
    return " ".join(["No alert is open.", *unknown]) if unknown else "Nothing is wrong."


def _section(looked: Looked, windows: list[Window], config: Settings) -> Section:
    newest = looked.versions[-1] if looked.versions else OfVersion("", 0)
    # A window that overlaps hardly differs.
    apart = [each for each in windows if each.end <= looked.period.start]
    before = apart[-1] if apart else None
    # The predictions first, then the columns, the largest drift first.
    drifts = sorted(newest.drifts, key=lambda each: each.subject != PREDICTION)
    return Section(
        looked,
        newest,
        before,
        [*changes(before, looked, config)] if before else [],
        [*_courses(looked, newest, windows, before, config)],
        [*_charts(newest, drifts[: CHARTS + 1], config)],
        drifts[CHARTS + 1 :],
        [*_facts(looked, newest, before, config)],
    )


def _courses(
    looked: Looked,
    newest: OfVersion,
    windows: list[Window],
    before: Window | None,
    config: Settings,
) -> Iterator[Course]:
    """Those with a threshold first."""
    judged = judge_performance(newest.metrics, config.training, config.monitoring)
    severities = {each.name: each.severity for each in judged}
    limits = [
        (name, bound, threshold)
        for bound in ("minimum", "maximum")
        for name, threshold in getattr(config.training, bound).items()
    ]
    limits = {("performance", name, ""): of for name, *of in limits}
    found = by_key(each for each in newest.metrics if each.kind in ("performance", "business"))
    for key in sorted(found, key=lambda key: key not in limits):
        known = [each for each in windows if key in each.metrics]
        times = [*(each.end for each in known), looked.period.end]
        metrics = [*(each.metrics[key] for each in known), found[key]]
        limit = (*limits[key], severities.get(key[1], "")) if key in limits else ()
        yield Course(times, metrics, before and before.metrics.get(key), *limit)


def _charts(newest: OfVersion, drifts: list[Drift], config: Settings) -> Iterator[Chart]:
    judged = judge_drift(newest.drifts, config.monitoring)
    severities = {each.subject: each.severity for each in judged}
    columns = {each.name: each for each in CONTRACT.columns}
    for drift in drifts:
        column = columns.get(drift.subject, CONTRACT.target)
        reference, counts = newest.reference.prediction, newest.counts["prediction"]
        title = f"Predictions of {column.name}"
        if drift.subject != PREDICTION:
            reference = newest.reference.columns[column.name]
            counts, title = newest.counts["columns"][column.name], column.name
        title += f", {column.unit}" if column.unit else ""
        severity = severities.get(drift.subject)
        yield Chart(title, drift, severity, bars(column, reference, counts))


def _facts(
    looked: Looked, newest: OfVersion, before: Window | None, config: Settings
) -> Iterator[Fact]:
    now, old = by_key(newest.metrics + looked.metrics), before.metrics if before else {}
    judged = {each.name: each for each in judge_quality([*now.values()], config)}
    for name, (what, shown) in QUALITY.items():
        if metric := now.get(key := ("quality", name, "")):
            limit, severity = "", judged[name].severity if name in judged else ""
            if name in judged:
                limit = f"at most {shown(judged[name].threshold)}"
            if name == "volume_ratio":
                low, high = config.monitoring.min_volume_ratio, config.monitoring.max_volume_ratio
                limit = f"{shown(low)} to {shown(high)}"
            was = shown(old[key].value) if key in old else ""
            yield Fact(what, shown(metric.value), was, limit, severity)
    ordered = sorted(newest.rejections.items(), key=lambda each: -each[1])
    for (column, reason), count in ordered[:LOST]:
        yield Fact(f"Rejected: {column} {reason}", f"{count:,}")
    gaps = [each for (_, name, _), each in now.items() if name == "missing_share"]
    for each in sorted(gaps, key=lambda each: -each.value)[:LOST]:
        was = old.get((each.kind, each.name, each.subject))
        shares = percent(each.value), percent(was.value) if was else ""
        yield Fact(f"Missing: {each.subject}", *shares)
