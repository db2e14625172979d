"""What has changed since an earlier window, in sentences; only what is more than accident."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from datetime import datetime
from math import sqrt
from typing import NamedTuple

import sqlalchemy as sa

from ...settings import Settings
from ...tables.monitored import metrics, of_windows, utc
from ..checks import judge_drift
from ..drift import Drift
from ..look import Looked
from ..performance import WIDTH
from ..records import Metric

# Earlier windows that are read, and columns that a sentence names.
WINDOWS, NAMED = 19, 3
LEVELS = ("", "warning", "critical")
# Smaller differences of two shares do not matter.
POINT = 0.01
SHARES = {"rejected_share": "rejected rows", "duplicate_share": "rows that repeat a key"}
PREDICTIONS = "quality", "predictions", ""
ByKey = dict[tuple[str, str, str], Metric]


class Window(NamedTuple):
    """An earlier window: the version that predicted last, and its metrics."""

    end: datetime
    version: str
    metrics: ByKey


def by_key(found: Iterable[Metric]) -> ByKey:
    return {(each.kind, each.name, each.subject): each for each in found}


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
        versions = [row.model_version for row in rows if row.model_version]
        newest = versions[-1] if versions else ""
        every = [Metric(*row[1:]) for row in rows if row.model_version in ("", newest)]
        found.append(Window(utc(end), newest, by_key(every)))
    return found


def changes(before: Window, looked: Looked, config: Settings) -> Iterator[str]:
    """Sentences, about the version that predicted last."""
    newest = looked.versions[-1:]
    old, new = before.metrics, by_key(looked.metrics + [m for v in newest for m in v.metrics])
    if newest and before.version not in ("", newest[0].version):
        yield f"Version {newest[0].version} predicts now; before, it was {before.version}."
    low, high = config.monitoring.min_volume_ratio, config.monitoring.max_volume_ratio
    rows = [of[PREDICTIONS].value for of in (old, new)]
    if not low * rows[0] <= rows[1] <= high * rows[0]:
        yield f"The number of predictions {_moved(*rows, '{:,.0f}'.format)}."
    for key in [key for key in new if key in old]:
        one, two = old[key], new[key]
        known = one.low is not None and two.low is not None
        if known and (two.high < one.low or two.low > one.high):
            moved = _moved(one.value, two.value, number)
            yield f"{two.name} {moved}: the 95 % intervals do not overlap."
        if two.name in SHARES and _differ(one, two):
            yield f"The share of {SHARES[two.name]} {_moved(one.value, two.value, percent)}."
    for what, names in _columns(old, new, config).items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        plural = "s" if len(names) > 1 else ""
        yield f"{len(names)} column{plural} {what}: {', '.join(names[:NAMED])}{more}."


def _columns(old: ByKey, new: ByKey, config: Settings) -> dict[str, list[str]]:
    """The columns that changed, and by how much, for each kind of change."""
    found, levels = defaultdict(list), [_levels(of, config) for of in (old, new)]
    for name in [name for name in levels[1] if name in levels[0]]:
        one, two = (of["drift", "psi", name] for of in (old, new))
        if levels[0][name] != levels[1][name]:
            what = "drifted more" if levels[1][name] > levels[0][name] else "drifted less"
            found[what].append(f"{name} (PSI {one.value:.2f}, now {two.value:.2f})")
        key = "quality", "missing_share", name  # kept only where a value is missing
        one, two = old.get(key, replace(one, value=0)), new.get(key, replace(two, value=0))
        if _differ(one, two):
            what = f"{'more' if two.value > one.value else 'fewer'} missing values"
            shares = f"{percent(one.value)}, now {percent(two.value)}"
            found[f"with {what}"].append(f"{name} ({shares})")
    for (_, what, name), each in new.items():
        if what == "new_categories" and ("quality", what, name) not in old:
            found["with new categories"].append(f"{name} ({each.value:,.0f} values)")
    return found


def _levels(of: ByKey, config: Settings) -> dict[str, int]:
    """How much each column drifts, from 0 to 2; without those that have too few rows."""
    drifts = [
        Drift(subject, each.value, of["drift", "p_value", subject].value, each.rows)
        for (kind, name, subject), each in of.items()
        if (kind, name) == ("drift", "psi")
    ]
    judged = judge_drift(drifts, config.monitoring)
    return {each.subject: LEVELS.index(each.severity) for each in judged}


def _differ(one: Metric, two: Metric) -> bool:
    """Whether two shares differ, by a two-proportion z-test at 5 %."""
    rows = one.rows, two.rows
    if not all(rows):
        return False
    both = (one.value * rows[0] + two.value * rows[1]) / sum(rows)
    error = sqrt(both * (1 - both) * (1 / rows[0] + 1 / rows[1]))
    return abs(one.value - two.value) > max(POINT, WIDTH * error)


def _moved(one: float, two: float, shown) -> str:
    return f"{'fell' if two < one else 'rose'} from {shown(one)} to {shown(two)}"


def number(value: float) -> str:
    """A measured value with three digits or more."""
    digits = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f}"


def percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")
