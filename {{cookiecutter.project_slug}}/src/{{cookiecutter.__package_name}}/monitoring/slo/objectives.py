"""What is promised: service level objectives, and the series that measure them."""

from dataclasses import dataclass

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

    @property
    def id(self) -> str:
        return f"{PACKAGE}-{self.name}"

    @property
    def budget(self) -> float:
        return round(1 - self.objective, 10)

    @property
    def duration(self) -> str:
        """The error budget as a time without any service."""
        minutes = self.budget * PERIOD_DAYS * 24 * 60
        if minutes < 2:
            return f"{minutes * 60:.0f} seconds"
        return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"

    def over(self, window: str) -> str:
        """The share of errors in a window."""
        if "WINDOW" in self.errors or window == WINDOWS[0]:
            return self.errors.replace("WINDOW", window)
        return (
            f'avg_over_time(slo:sli_error:ratio_rate{WINDOWS[0]}{{sloth_id="{self.id}"}}[{window}])'
        )


def percent(share: float) -> str:
    return f"{share * 100:.6g} %"
