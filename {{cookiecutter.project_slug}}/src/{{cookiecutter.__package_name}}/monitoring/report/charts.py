"""What the charts of the report show: bars of a distribution, and the course of a metric."""

from datetime import datetime
from typing import NamedTuple

import numpy as np

from ...models.reference import Bins
from ...schema import Column
from ..records import Metric

# Bars of a chart, at most, without that of missing values; characters of a label.
BARS, LABEL = 11, 16


class Bar(NamedTuple):
    """The share of the training rows, and of the rows of the window, from 0 to 1."""

    label: str
    before: float
    now: float


class Course(NamedTuple):
    """A metric in the last windows, the oldest first; ``before`` is the one to compare with."""

    times: list[datetime]
    metrics: list[Metric]
    before: Metric | None
    bound: str = ""
    threshold: float | None = None

    def place(self, value: float) -> float:
        """The place of a value among all that are drawn, in percent."""
        drawn = [end for each in self.metrics for end in (each.value, each.low, each.high)]
        return _place(value, [each for each in [*drawn, self.threshold] if each is not None])

    def points(self, end: str = "value") -> list[tuple[float, float]]:
        """The points of a line over time, in percent; a value without interval is its own end."""
        times = [each.timestamp() for each in self.times]
        found = [(getattr(each, end), each.value) for each in self.metrics]
        ends = [self.place(value if one is None else one) for one, value in found]
        return [(_place(x, times), 100 - y) for x, y in zip(times, ends, strict=True)]


def bars(column: Column, bins: Bins, counts: list[int]) -> list[Bar]:
    """A bar for each bin; of many classes the largest, and one for all others."""
    labels = column.class_names if bins.edges is None else ranges(column, bins.edges)
    shares = ([each / max(sum(of), 1) for each in of] for of in (bins.counts, counts))
    *found, missing = map(Bar, [*labels, "missing"], *shares)
    if len(found) > BARS:
        found.sort(key=lambda bar: -max(bar.before, bar.now))
        found, rest = found[: BARS - 1], found[BARS - 1 :]
        before, now = (sum(bar[i] for bar in rest) for i in (1, 2))
        found.append(Bar(f"{len(rest):,} others", before, now))
    return [*found, missing] if missing.before or missing.now else found


def ranges(column: Column, edges: list[float]) -> list[str]:
    """The ranges that end with these edges, in the column's own form; long ones by their end."""
    whole = column.type in ("integer", "date")
    upper = np.floor(edges) if whole else np.array(edges)
    last, first = ([_label(column, each) for each in of] for of in (upper, upper + whole))
    if not last:
        return ["all"]
    found = [f"up to {last[0]}"]
    for low, high in zip(first, last[1:], strict=False):
        both = high if low == high else f"{low} to {high}"
        found.append(both if len(both) <= LABEL else f"to {high}")
    return [*found, f"over {last[-1]}"]


def _label(column: Column, edge: float) -> str:
    if column.type == "date":
        return str(column.decode(edge))
    return f"{edge:,.0f}" if 1e3 <= abs(edge) < 1e9 else f"{edge:.4g}"


def _place(value: float, among: list[float]) -> float:
    """The place of a value in the range of all, in percent, with a margin."""
    low, span = min(among), max(among) - min(among)
    return round(4 + 92 * (value - low) / span, 1) if span else 50.0
