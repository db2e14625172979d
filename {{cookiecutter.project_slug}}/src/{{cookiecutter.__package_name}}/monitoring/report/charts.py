"""What the charts of the report show: bars of a distribution, and the course of a metric."""

from datetime import datetime
from typing import NamedTuple

import numpy as np

from ...models.reference import Bins
from ...schema import Column
from ..records import Metric

# Bars of a chart, at most, without that of missing values.
BARS = 11
# Characters of a label for which there is room.
LABEL = 16
# From here on, numbers are written with an exponent.
LARGE = 1e9


class Bar(NamedTuple):
    """The share of the training rows, and of the rows of the window, from 0 to 1."""

    label: str
    before: float
    now: float


class Course(NamedTuple):
    """A metric in the last windows, the oldest first, and its threshold if it has one.

    ``before`` is the metric in the window to compare with.
    """

    times: list[datetime]
    metrics: list[Metric]
    before: Metric | None = None
    bound: str = ""
    threshold: float | None = None
    severity: str = ""

    @property
    def now(self) -> Metric:
        return self.metrics[-1]

    def ends(self, end: str) -> list[float]:
        """The lower or upper ends of the intervals; a value without one is its own end."""
        found = [(getattr(each, end), each.value) for each in self.metrics]
        return [value if one is None else one for one, value in found]

    def place(self, value: float) -> float:
        """The place of a value among all that are drawn, in percent."""
        limits = [] if self.threshold is None else [self.threshold]
        return place(value, [*self.ends("low"), *self.ends("high"), *limits])

    def points(self, end: str = "value") -> list[tuple[float, float]]:
        """The points of a line over time, in percent; y goes down."""
        times = [each.timestamp() for each in self.times]
        x = [place(each, times) for each in times]
        return [*zip(x, (100 - self.place(each) for each in self.ends(end)), strict=True)]


def bars(column: Column, bins: Bins, counts: list[int]) -> list[Bar]:
    """A bar for each bin; of many classes the largest, and one for all others."""
    labels = column.class_names if bins.edges is None else ranges(column, bins.edges)
    shares = (np.array(each) / max(sum(each), 1) for each in (bins.counts, counts))
    both = (each.tolist() for each in shares)
    *found, missing = map(Bar, [*labels, "missing"], *both)
    if len(found) > BARS:
        found.sort(key=lambda bar: -max(bar.before, bar.now))
        found, rest = found[: BARS - 1], found[BARS - 1 :]
        before, now = (sum(bar[i] for bar in rest) for i in (1, 2))
        found.append(Bar(f"{len(rest):,} others", before, now))
    return [*found, missing] if missing.before or missing.now else found


def ranges(column: Column, edges: list[float]) -> list[str]:
    """The ranges that end with these edges, in the column's own form; long ones by their end."""
    upper = np.array(edges, np.float64)
    if column.type in ("integer", "date"):
        form = "{:,}".format if column.type == "integer" else str
        last, first = (
            [form(each) for each in column.decode(of).tolist()]
            for of in (np.floor(upper), np.floor(upper) + 1)
        )
    else:
        last = first = _decimals(upper)
    if not last:
        return ["all"]
    found = [f"up to {last[0]}"]
    for low, high in zip(first, last[1:], strict=False):
        both = high if low == high else f"{low} to {high}"
        found.append(both if len(both) <= LABEL else f"to {high}")
    return [*found, f"over {last[-1]}"]


def _decimals(edges: np.ndarray) -> list[str]:
    """The edges with as few decimals as tell them apart, or with an exponent."""
    gap = np.diff(edges).min() if len(edges) > 1 else np.abs(edges).sum() or 1
    if np.abs(edges).max(initial=0) < LARGE:
        for digits in range(7):
            if np.abs(edges - edges.round(digits)).max(initial=0) <= 0.05 * gap:
                return [f"{each:,.{digits}f}" for each in edges]
    return [f"{each:.5g}" for each in edges]


def place(value: float, among: list[float]) -> float:
    """The place of a value in the range of all, in percent, with a margin."""
    low, span = min(among), max(among) - min(among)
    return round(4 + 92 * (value - low) / span, 1) if span else 50.0
