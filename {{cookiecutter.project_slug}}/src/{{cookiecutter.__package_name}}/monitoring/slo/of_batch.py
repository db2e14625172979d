"""The signals of the batch job: how old the newest predictions are."""

from ...settings import Settings
from .signals import GAUGE, Objective, Panel, Signals, percent

AGE = f'(time() - max(model_newest_prediction_seconds{{{GAUGE},source="batch"}}))'


def signals(config: Settings) -> Signals:
    hours = config.monitoring.max_age_hours
    fresh = Objective(
        "freshness",
        config.slo.freshness,
        f"{AGE} > bool {hours * 3600:.0f}",
        f"{percent(config.slo.freshness)} of the time, the newest predictions of the batch job are "
        f"at most {hours:g} hours old.",
    )
    panel = Panel("Age of the newest predictions", {"batch": AGE}, "s")
    return Signals([fresh], [], [panel], {})
