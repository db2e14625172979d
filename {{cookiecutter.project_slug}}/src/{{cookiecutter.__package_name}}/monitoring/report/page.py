"""The report of ``monitor``: one HTML file without scripts, which needs nothing from elsewhere."""

from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa
from jinja2 import Environment, PackageLoader, StrictUndefined

from ...contract import CONTRACT
from ...settings import PACKAGE, Settings
from ...tables.monitored import utc
from ...tables.storage import folder
from ..drift import PREDICTION, Drift
from ..look import Looked, OfVersion
from ..records import database
from .changes import Window, changes, earlier, named, number, percent, window
from .charts import Bar, Course, bars

# Columns with a chart, and columns in the table of data quality.
CHARTS, LOST = 20, 20
NAMES = {"batch": "Batch job", "api": "API"}
QUALITY = {
    "predictions": ("Predictions", "{:,.0f}".format),
    "volume_ratio": ("Predictions, compared with before", "{:.2f} ×".format),
    "age_hours": ("Age of the newest prediction", "{:,.1f} h".format),
    "labelled_share": ("Predictions with a label", percent),
    "rejected_share": ("Rejected rows", percent),
    "duplicate_share": ("Rows that repeat a key", percent),
}


class Section:
    """What the page shows of a source, about the version that predicted last."""

    def __init__(self, looked: Looked, windows: list[Window], config: Settings) -> None:
        self.looked, self._config = looked, config
        self._newest = newest = looked.versions[-1] if looked.versions else OfVersion("", 0)
        self._judged = {each.key: each for each in newest.verdicts + looked.verdicts}
        now = window(looked.period.end, newest.version, newest.metrics + looked.metrics)
        # A window that overlaps hardly differs.
        apart = [each for each in windows if each.end <= looked.period.start]
        self.before, self._now, self._windows = apart[-1] if apart else None, now, [*windows, now]
        self.changes = [*changes(self.before, now, config.monitoring)] if apart else []
        self.courses = [*self._courses()]
        # The predictions first, then the columns, the largest drift first.
        drifts = sorted(newest.drifts, key=lambda each: each.subject != PREDICTION)
        self.charts = [self._chart(each) for each in drifts[: CHARTS + 1]]
        self.without_chart, self.quality = drifts[CHARTS + 1 :], [*self._quality()]

    def severity(self, *key: str) -> str | None:
        """Of a metric; None if it was not judged."""
        return self._judged[key].severity if key in self._judged else None

    def _quality(self) -> Iterator[tuple[str, str, str, str, str | None]]:
        """Each fact about the data: what, now, before, the limit, and the severity."""
        now, old = self._now.metrics, self.before.metrics if self.before else {}
        limits, rejections = self._config.monitoring, self._newest.rejections
        for name, (what, shown) in QUALITY.items():
            key = "quality", name, ""
            limit = f"at most {shown(self._judged[key].threshold)}" if key in self._judged else ""
            if name == "volume_ratio":
                limit = f"{shown(limits.min_volume_ratio)} to {shown(limits.max_volume_ratio)}"
            if key in now:
                was = shown(old[key].value) if key in old else ""
                yield what, shown(now[key].value), was, limit, self.severity(*key)
        for (column, reason), count in sorted(rejections.items(), key=lambda of: -of[1])[:LOST]:
            yield f"Rejected: {column} {reason}", f"{count:,}", "", "", ""
        gaps = [key for key in now if key[1] == "missing_share"]
        for key in sorted(gaps, key=lambda key: -now[key].value)[:LOST]:
            was = percent(old[key].value) if key in old else ""
            yield f"Missing: {key[2]}", percent(now[key].value), was, "", ""

    def _courses(self) -> Iterator[Course]:
        """The performance and business metrics, those with a threshold first."""
        limits = {
            ("performance", name, ""): (bound, threshold)
            for bound in ("minimum", "maximum")
            for name, threshold in getattr(self._config.training, bound).items()
        }
        found = [key for key in self._now.metrics if key[0] in ("performance", "business")]
        for key in sorted(found, key=lambda key: key not in limits):
            known = [each for each in self._windows if key in each.metrics]
            metrics = [each.metrics[key] for each in known]
            before = self.before and self.before.metrics.get(key)
            yield Course([each.end for each in known], metrics, before, *limits.get(key, ()))

    def _chart(self, drift: Drift) -> tuple[str, Drift, list[Bar]]:
        column = {each.name: each for each in CONTRACT.columns}.get(drift.subject, CONTRACT.target)
        reference, counts = self._newest.reference.prediction, self._newest.counts["prediction"]
        title = f"Predictions of {column.name}"
        if drift.subject != PREDICTION:
            reference = self._newest.reference.columns[column.name]
            counts, title = self._newest.counts["columns"][column.name], column.name
        title += f", {column.unit}" if column.unit else ""
        return title, drift, bars(column, reference, counts)


def write(looked: list[Looked], alerts: list[sa.Row], place: str, config: Settings) -> str:
    """Write the report, whole or not at all; returns its place.

    :param alerts: the open ones, the worst first.
    :param place: a path, or a URI of cloud storage.
    """
    with database(config.database) as connection:
        sections = [Section(each, earlier(connection, each), config) for each in looked]
    worst = [each.source for each in alerts]
    sections.sort(key=lambda each: [*worst, each.looked.source].index(each.looked.source))
    loader = PackageLoader(PACKAGE, "monitoring/report")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    pages.filters |= {"number": number, "utc": utc}
    text = pages.get_template("page.html").render(
        project=PACKAGE.replace("_", " ").capitalize(),
        production=config.production,
        verdict=_verdict(sections, alerts, config),
        names=NAMES,
        alerts=alerts,
        sections=sections,
        written=datetime.now(UTC),
    )
    parent, _, name = place.replace("\\", "/").rpartition("/")
    with folder(parent).file(name) as path:
        path.write_text(text, "utf-8")
    return place


def _verdict(sections: list[Section], alerts: list[sa.Row], config: Settings) -> str:
    """What is wrong, and what is not known, in plain sentences."""
    found, said = [each for each in sections if each.looked.versions], []
    if alerts:
        count = "1 alert is" if len(alerts) == 1 else f"{len(alerts):,} alerts are"
        names = [f"{each.subject or each.name} ({each.kind})" for each in alerts]
        said.append(f"{count} open: {named(names)}.")
    for section in found:
        where = f" ({NAMES[section.looked.source]})" if len(found) > 1 else ""
        labels = max((each.metrics[-1].rows for each in section.courses), default=0)
        if labels < config.monitoring.minimum_labels:
            few = f"only {labels:,} predictions have" if labels else "no prediction has"
            said.append(f"The quality of the model is not known{where}: {few} a label.")
        if not section.charts:
            said.append(f"Drift is not known{where}; the notes say why.")
    if not found:
        said.append("There are no predictions in this window.")
    if said and not alerts:
        said.insert(0, "No alert is open.")
    return " ".join(said) or "Nothing is wrong."
