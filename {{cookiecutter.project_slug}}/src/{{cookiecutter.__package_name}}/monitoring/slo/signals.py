"""What is promised, what alerts, and what a dashboard shows: the same for every kind of service."""

from dataclasses import dataclass
from typing import Literal

from ...settings import PACKAGE

# The target of this project, as deploy/monitoring/prometheus.yml names it, and its gauges.
OURS, GAUGE = f'job="{PACKAGE}"', f'project="{PACKAGE}"'
# Ranges over which the share of errors is recorded.
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# Days in which an error budget may be spent.
PERIOD_DAYS = 30


@dataclass(frozen=True)
class Objective:
    """A service level objective: ``objective`` is the share of what must be good.

    ``errors`` is the share that is not, in PromQL. For a share of events it has WINDOW for a range,
    and no value without events, so that quiet hours count neither as good nor as bad. For a share
    of the time it is 1 while something is wrong, and 0 otherwise.
    """

    name: str
    objective: float
    errors: str
    promise: str

    def over(self, window: str) -> str:
        if "WINDOW" in self.errors or window == WINDOWS[0]:
            return self.errors.replace("WINDOW", window)
        return f"avg_over_time(slo:sli_error:ratio_rate{WINDOWS[0]}{{{self.id}}}[{window}])"

    @property
    def id(self) -> str:
        return f'sloth_id="{PACKAGE}-{self.name}"'


def per_second(labels: str, series: str) -> str:
    """A query of Grafana for the rates of a counter, by labels."""
    return f"sum by ({labels}) (rate({series}[$__rate_interval]))"


def percent(share: float) -> str:
    return f"{share * 100:.6g} %"


@dataclass(frozen=True)
class Alert:
    """A condition in PromQL that must last ``minutes``; ``runbook`` is an anchor."""

    name: str
    condition: str
    minutes: int
    severity: Literal["page", "ticket"]
    summary: str
    runbook: str


@dataclass(frozen=True)
class Panel:
    """A panel of the dashboard: queries in PromQL by legend, which may name labels."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    width: int = 8


@dataclass(frozen=True)
class Signals:
    """All of one kind of service; ``annotations`` are queries for the times of events, by name."""

    objectives: list[Objective]
    alerts: list[Alert]
    panels: list[Panel]
    annotations: dict[str, str]
