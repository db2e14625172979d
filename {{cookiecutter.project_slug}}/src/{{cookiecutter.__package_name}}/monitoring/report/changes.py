"""What has changed since an earlier window, in sentences; small differences are left out."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from ...settings import Monitoring
from ...tables.monitored import metrics, of_windows, utc
from ..checks import drift_level
from ..look import Looked
from ..records import Metric

# Earlier windows that are read, and columns that a sentence names.
WINDOWS, NAMED = 19, 3
# A share that moved by less than this does not matter, nor by less than half of the smaller one.
POINT = 0.01
SHARES = {"rejected_share": "rejected rows", "duplicate_share": "rows that repeat a key"}


class Window(NamedTuple):
    """A window: the version that predicted last, and its metrics by their keys."""

    end: datetime
    version: str
    metrics: dict[tuple[str, str, str], Metric]

    def value(self, *key: str) -> float:
        """A metric's value; 0 if there is none."""
        return self.metrics[key].value if key in self.metrics else 0


def window(end: datetime, version: str, found: list[Metric]) -> Window:
    return Window(end, version, {(each.kind, each.name, each.subject): each for each in found})


def earlier(connection: sa.Connection, looked: Looked) -> list[Window]:
    """The windows before, the oldest first: those of the same length, if there are any."""
    of, period = metrics.c, looked.period
    query = sa.select(of.window_start, of.window_end).where(
        *of_windows(looked.source),
        *(of.window_end < period.end, of.name == "predictions"),  # one row of each window
    )
    windows = connection.execute(query.order_by(of.window_end.desc()).limit(10 * WINDOWS)).all()
    length, found = period.end - period.start, []
    alike = [each for each in windows if each.window_end - each.window_start == length]
    columns = [of[field.name] for field in fields(Metric)]
    for start, end in reversed((alike or windows)[:WINDOWS]):
        query = sa.select(of.model_version, *columns).where(*of_windows(looked.source))
        query = query.where(of.window_start == start, of.window_end == end).order_by(of.id)
        rows = connection.execute(query).all()
        version = [row.model_version for row in rows if row.model_version][-1:] or [""]
        every = [Metric(*row[1:]) for row in rows if row.model_version in ("", *version)]
        found.append(window(utc(end), *version, every))
    return found


def changes(before: Window, now: Window, config: Monitoring) -> Iterator[str]:
    """Sentences, about the version that predicted last."""
    if before.version != now.version and before.version and now.version:
        yield f"Version {now.version} predicts now; before, it was {before.version}."
    rows = [of.value("quality", "predictions", "") for of in (before, now)]
    if not config.min_volume_ratio * rows[0] <= rows[1] <= config.max_volume_ratio * rows[0]:
        yield f"The number of predictions {_moved(*rows, '{:,.0f}'.format)}."
    for key in [key for key in now.metrics if key in before.metrics]:
        one, two = before.metrics[key], now.metrics[key]
        if None not in (one.low, two.low) and (two.high < one.low or two.low > one.high):
            moved = _moved(one.value, two.value, number)
            yield f"{two.name} {moved}: the 95 % intervals do not overlap."
        if two.name in SHARES and _differ(one.value, two.value):
            yield f"The share of {SHARES[two.name]} {_moved(one.value, two.value, percent)}."
    for what, names in _columns(before, now, config).items():
        yield f"{len(names)} column{'s' if len(names) > 1 else ''} {what}: {named(names)}."


def _columns(before: Window, now: Window, config: Monitoring) -> dict[str, list[str]]:
    """The columns that changed, and by how much, for each kind of change."""
    found = defaultdict(list)
    for (kind, what, name), two in now.metrics.items():
        one = before.metrics.get((kind, what, name))
        if what == "new_categories" and not one:
            found["with new categories"].append(f"{name} ({two.value:,.0f} values)")
        if what != "psi" or not one or min(one.rows, two.rows) < config.minimum_rows:
            continue
        psi, p, missing = (
            [of.value(*key, name) for of in (before, now)]
            for key in (("drift", "psi"), ("drift", "p_value"), ("quality", "missing_share"))
        )
        old, new = (drift_level(*each, config) for each in zip(psi, p, strict=True))
        if old != new:
            values = f"{name} (PSI {psi[0]:.2f}, now {psi[1]:.2f})"
            found[f"drifted {'more' if new > old else 'less'}"].append(values)
        if _differ(*missing):
            more = "more" if missing[1] > missing[0] else "fewer"
            values = f"{name} ({percent(missing[0])}, now {percent(missing[1])})"
            found[f"with {more} missing values"].append(values)
    return found


def _differ(one: float, two: float) -> bool:
    return abs(one - two) >= max(POINT, min(one, two) / 2)


def _moved(one: float, two: float, shown) -> str:
    return f"{'fell' if two < one else 'rose'} from {shown(one)} to {shown(two)}"


def named(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def number(value: float) -> str:
    """A measured value with three digits or more."""
    digits = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f}"


def percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")
