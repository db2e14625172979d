"""The objective of the batch job: how old the newest predictions are."""

from ...settings import Settings
from .objectives import GAUGE, Objective, percent


def objectives(config: Settings) -> list[Objective]:
    hours, share = config.monitoring.max_age_hours, config.slo.freshness
    newest = f'max(model_newest_prediction_seconds{{{GAUGE},source="batch"}})'
    promise = f"the newest predictions of the batch job are at most {hours:g} hours old."
    return [
        Objective(
            "freshness",
            share,
            f"time() - {newest} > bool {hours * 3600:.0f}",
            f"{percent(share)} of the time, {promise}",
        )
    ]
