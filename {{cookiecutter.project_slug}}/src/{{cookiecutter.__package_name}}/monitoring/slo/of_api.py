"""The signals of the API: its requests, answers, and the predictions that it keeps."""

from ...api.metrics import DURATIONS
from ...api.routes import PREDICTING
from ...errors import ProjectError
from ...settings import Settings, Slo
from .signals import OURS, Alert, Objective, Panel, Signals, per_second, percent

REQUESTS = f'{OURS},route=~"{"|".join(PREDICTING).replace("{", "[{]")}"'
DURATION = "http_request_duration_seconds"
IN_FLIGHT = f"max(http_requests_in_flight{{{OURS}}} / http_requests_in_flight_limit{{{OURS}}})"


def require_edge(slo: Slo) -> None:
    """:raises ProjectError: ``latency_seconds`` is not an edge of the histogram."""
    if slo.latency_seconds not in DURATIONS:
        edges = ", ".join(f"{edge:g}" for edge in DURATIONS)
        raise ProjectError(f"slo.latency_seconds = {slo.latency_seconds:g}: choose one of {edges}.")


def signals(config: Settings) -> Signals:
    require_edge(config.slo)
    return Signals(_objectives(config.slo), _alerts(config.slo), PANELS, ANNOTATIONS)


def _objectives(slo: Slo) -> list[Objective]:
    def rate(part: str, more: str) -> str:
        return f"sum(rate({DURATION}_{part}{{{REQUESTS}{more}}}[WINDOW]))"

    answered = ',status!~"5.."'
    fast = rate("bucket", f'{answered},le="{float(slo.latency_seconds)}"')
    return [
        Objective(
            "availability",
            slo.availability,
            f"1 - {rate('count', answered)} / ({rate('count', '')} > 0)",
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


def _alerts(slo: Slo) -> list[Alert]:
    return [
        Alert(
            "Saturated",
            f"{IN_FLIGHT} > {slo.saturation}",
            *(5, "ticket"),
            f"More than {percent(slo.saturation)} of the requests that an API can answer at once "
            "are in flight.",
            "saturation",
        ),
        Alert(
            "PredictionsNotKept",
            f"sum(increase(predictions_not_kept_total{{{OURS}}}[1h])) > 0",
            *(0, "ticket"),
            "The API answers, but does not keep its predictions.",
            "predictionsnotkept",
        ),
        Alert(
            "ModelNotLoaded",
            f'sum(increase(model_reloads_total{{{OURS},outcome="failed"}}[1h])) > 0',
            *(0, "ticket"),
            "A new model could not be loaded; the API serves the one before.",
            "modelnotloaded",
        ),
    ]


def _quantile(share: float, rates: str) -> str:
    return f"histogram_quantile({share}, {rates})"


def _of_status(name: str, labels: str = "status") -> str:
    return f"sum by ({labels}) (increase({DURATION}_{name}{{{REQUESTS}}}[$__range]))"


RATES = per_second("le", f"{DURATION}_bucket{{{REQUESTS}}}")
BUCKETS = _of_status("bucket", "le, status")
PANELS = [
    Panel(
        "Latency",
        {f"p{share * 100:g}": _quantile(share, RATES) for share in (0.5, 0.95, 0.99)},
        "s",
    ),
    Panel(
        "Requests per second",
        {"{{route}}": per_second("route", f"http_requests_total{{{REQUESTS}}}")},
    ),
    Panel(
        "Errors per second", {"{{code}}": per_second("code", f"http_errors_total{{{REQUESTS}}}")}
    ),
    Panel("Saturation", {"in flight": IN_FLIGHT}, "percentunit"),
    Panel(
        "Answers by status",
        {
            "count": _of_status("count"),
            "average": f"{_of_status('sum')} / ({_of_status('count')} > 0)",
            "p95": _quantile(0.95, BUCKETS),
            "p99": _quantile(0.99, BUCKETS),
        },
        *("s", "table"),
    ),
    Panel(
        "Predictions per second",
        {"{{prediction}}": per_second("prediction", f"predictions_total{{{OURS}}}")},
    ),
    Panel(
        "Values that break the contract per second",
        {"{{column}}": per_second("column", f"contract_violations_total{{{OURS}}}")},
    ),
]
ANNOTATIONS = {
    "API started": f"max(process_start_time_seconds{{{OURS}}})",
    "Model trained": f"max(model_trained_timestamp_seconds{{{OURS}}})",
}
