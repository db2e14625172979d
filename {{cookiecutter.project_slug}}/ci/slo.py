"""Check the metrics of an API against its objectives ([slo] of the settings).

A 5xx answer is a failure.
"""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from {{ cookiecutter.__package_name }}.api.routes import PREDICTING
from {{ cookiecutter.__package_name }}.settings import Slo


@dataclass(frozen=True)
class Counts:
    """Requests for predictions since the API started."""

    requests: float = 0
    failed: float = 0
    slow: float = 0

    def __sub__(self, before: "Counts") -> "Counts":
        return Counts(
            self.requests - before.requests, self.failed - before.failed, self.slow - before.slow
        )

    def __str__(self) -> str:
        return f"{self.requests:.0f} requests, {self.failed:.0f} failed, {self.slow:.0f} slow"


def counts(exposition: str, slo: Slo) -> Counts:
    """The counts in a text in Prometheus' format."""
    requests = failed = timed = fast = 0.0
    for family in text_string_to_metric_families(exposition):
        for name, labels, value, *_ in family.samples:
            if labels.get("route") not in PREDICTING:
                continue
            if name == "http_requests_total":
                requests += value
                failed += value if labels["status"].startswith("5") else 0
            elif name == "http_request_duration_seconds_count":
                timed += value
            elif name == "http_request_duration_seconds_bucket":
                fast += value if float(labels["le"]) == slo.latency_seconds else 0
    return Counts(requests, failed, timed - fast)


def broken(seen: Counts, slo: Slo) -> list[str]:
    """The objectives that these requests miss, a phrase for each."""
    if not seen.requests:
        return []
    found = []
    available, fast = 1 - seen.failed / seen.requests, 1 - seen.slow / seen.requests
    if available < slo.availability:
        found.append(f"{available:.3%} of the answers are none of 5xx, {slo.availability:.3%} must")
    if fast < slo.latency_share:
        found.append(
            f"{fast:.2%} took at most {slo.latency_seconds:g} s, {slo.latency_share:.2%} must"
        )
    return found
