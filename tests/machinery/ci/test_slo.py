"""The objectives of the API, counted from its own metrics."""

import pytest
import slo
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from slo import Counts

from iris_flower_prediction.api.metrics import DURATIONS
from iris_flower_prediction.errors import ProjectError
from iris_flower_prediction.monitoring.slo.of_api import require_edge
from iris_flower_prediction.settings import Slo

OBJECTIVES = Slo(availability=0.99, latency_share=0.9, latency_seconds=0.5)


def exposition(*answers: tuple[str, int, float]) -> str:
    """The metrics of an API after answers: route, status, seconds."""
    registry = CollectorRegistry()
    named = ("http_requests_total", "Answers.", ("route", "status", "model", "version"))
    requests = Counter(*named, registry=registry)
    named = ("http_request_duration_seconds", "From head to answer.", ("route",))
    durations = Histogram(*named, registry=registry, buckets=DURATIONS)
    for route, status, seconds in answers:
        requests.labels(route, str(status), "model", "1").inc()
        durations.labels(route).observe(seconds)
    return generate_latest(registry).decode()


def test_failed_and_slow_requests_for_predictions_are_counted():
    answers = [("/predict", 200, 0.1), ("/predict", 503, 0.001), ("/invocations", 200, 0.7)]
    answers += [("/v2/models/{name}/infer", 422, 0.5), ("/health/ready", 503, 3.0)]
    assert slo.counts(exposition(*answers), OBJECTIVES) == Counts(requests=4, failed=1, slow=1)


def test_an_api_that_was_asked_nothing_has_broken_nothing():
    assert slo.counts(exposition(), OBJECTIVES) == Counts()
    assert slo.broken(Counts(), OBJECTIVES) == []


def test_only_what_happened_since_counts():
    assert Counts(110, 5, 20) - Counts(10, 5, 19) == Counts(100, 0, 1)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (Counts(100, 1, 10), None),
        (Counts(100, 2, 0), "98.000% of the answers are none of 5xx, 99.000% must"),
        (Counts(100, 0, 11), "89.00% took at most 0.5 s, 90.00% must"),
    ],
)
def test_an_objective_is_kept_to_its_last_request(seen, reason):
    assert slo.broken(seen, OBJECTIVES) == ([reason] if reason else [])


def test_seconds_that_cannot_be_counted_are_refused():
    require_edge(OBJECTIVES)
    with pytest.raises(ProjectError, match=r"slo\.latency_seconds = 0\.4: choose one of 0\.001"):
        require_edge(Slo(latency_seconds=0.4))
