"""The objectives of the API: how many requests are answered, and how fast."""

from ...api.metrics import DURATIONS
from ...api.routes import PREDICTING
from ...errors import ProjectError
from ...settings import Settings, Slo
from .objectives import OURS, Objective, percent

REQUESTS = f'{OURS},route=~"{"|".join(PREDICTING).replace("{", "[{]")}"'


def require_edge(slo: Slo) -> None:
    """:raises ProjectError: ``latency_seconds`` is not an edge of the histogram."""
    if slo.latency_seconds not in DURATIONS:
        edges = ", ".join(f"{edge:g}" for edge in DURATIONS)
        raise ProjectError(f"slo.latency_seconds = {slo.latency_seconds:g}: choose one of {edges}.")


def objectives(config: Settings) -> list[Objective]:
    """:raises ProjectError: the latency cannot be measured."""
    require_edge(slo := config.slo)

    def rate(part: str, more: str = "") -> str:
        return f"sum(rate(http_request_duration_seconds_{part}{{{REQUESTS}{more}}}[WINDOW]))"

    answered = ',status!~"5.."'
    fast = rate("bucket", f'{answered},le="{float(slo.latency_seconds)}"')
    return [
        Objective(
            "availability",
            slo.availability,
            f"1 - {rate('count', answered)} / ({rate('count')} > 0)",
            f"{percent(slo.availability)} of the requests for predictions are answered without an "
            "error of the server (5xx).",
        ),
        Objective(
            "latency",
            slo.latency_share,
            f"1 - {fast} / ({rate('count', answered)} > 0)",
            f"{percent(slo.latency_share)} of the requests for predictions that are answered take "
            f"at most {slo.latency_seconds:g} s.",
        ),
    ]
