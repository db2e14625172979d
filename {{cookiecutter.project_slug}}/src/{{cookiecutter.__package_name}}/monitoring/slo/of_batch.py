"""The signals of the batch job: how old the newest predictions are."""

from ...settings import Settings
from .signals import OURS, Objective, Panel, Signals, percent

BATCH = f'{OURS},source="batch"'
# When `monitor` looked, and how old the newest prediction was then.
AGE = (
    f"(time() - max(model_window_end_seconds{{{BATCH}}}) "
    f'+ 3600 * max(model_metric{{{BATCH},kind="quality",name="age_hours"}}))'
)


def signals(config: Settings) -> Signals:
    hours = config.monitoring.max_age_hours
    fresh = Objective(
        "freshness",
        config.slo.freshness,
        f"{AGE} > bool {hours * 3600:g}",
        f"{percent(config.slo.freshness)} of the time, the newest predictions of the batch job are "
        f"at most {hours:g} hours old.",
    )
    panel = Panel("Age of the newest predictions", {"batch": AGE}, "s")
    return Signals([fresh], [], [panel], {})
