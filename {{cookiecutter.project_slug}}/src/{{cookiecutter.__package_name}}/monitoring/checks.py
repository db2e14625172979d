"""Judge the metrics of a window against the thresholds; what is wrong becomes an alert."""

from collections.abc import Iterator

from ..settings import Monitoring, Settings, Training
from .drift import PREDICTION, PSI_CRITICAL, PSI_WARNING, Drift
from .records import Metric, Verdict

LEVELS = "", "warning", "critical"


def judge_performance(
    found: list[Metric], limits: Training, config: Monitoring
) -> Iterator[Verdict]:
    """Each metric with a threshold in [training]; few labels are not judged.

    It is critical if the whole confidence interval misses the threshold.
    """
    for metric in found:
        low, high = limits.minimum.get(metric.name), limits.maximum.get(metric.name)
        threshold = high if low is None else low
        few = metric.rows < config.minimum_labels or metric.low is None
        if metric.kind != "performance" or threshold is None or few:
            continue
        below = low is not None
        missed = metric.value < threshold if below else metric.value > threshold
        best_case = metric.high if below else metric.low
        surely = best_case < threshold if below else best_case > threshold
        severity = ("critical" if surely else "warning") if missed else ""
        name = f"training.{'minimum' if below else 'maximum'}"
        yield Verdict(
            *("performance", metric.name, "", metric.value, threshold, severity),
            f"{metric.name} is {metric.value:.4g} ({metric.low:.4g} to {metric.high:.4g}) over "
            f"{metric.rows:,} labelled rows, {name} is {threshold:g}.",
        )


def drift_level(psi: float, p: float, config: Monitoring) -> int:
    """0 to 2, a place in ``LEVELS``. A drift needs both: a large index, and a p-value that is no
    accident. So a small window, whose index is large by accident, and a large one, whose p-value
    is always small, do not alert.
    """
    return (psi > PSI_WARNING) + (psi > PSI_CRITICAL) if p < config.significance else 0


def judge_drift(found: list[Drift], config: Monitoring) -> Iterator[Verdict]:
    """Each drift, by ``drift_level``; few rows are not judged."""
    for drift in found:
        if drift.rows < config.minimum_rows:
            continue
        severity = LEVELS[drift_level(drift.psi, drift.p, config)]
        threshold = PSI_CRITICAL if severity == "critical" else PSI_WARNING
        what = "The predictions have" if drift.subject == PREDICTION else f"{drift.subject} has"
        yield Verdict(
            *("drift", "psi", drift.subject, drift.psi, threshold, severity),
            f"{what} moved away from the training rows: the population stability index is "
            f"{drift.psi:.2f} over {drift.rows:,} rows.",
        )


def judge_quality(found: list[Metric], config: Settings) -> Iterator[Verdict]:
    """Shares of rejected and repeated rows, the age of the newest prediction, and the volume."""
    limits, batch = config.monitoring, getattr(config, "batch", None)
    told = {
        "rejected_share": (
            batch.max_rejected_share / 2 if batch else 1,
            "{:.1%} of the rows were rejected, more than {:.1%}; a run fails at twice that",
        ),
        "duplicate_share": (
            limits.max_duplicate_share,
            "{:.1%} of the rows repeat a key, monitoring.max_duplicate_share is {:.1%}",
        ),
        "age_hours": (
            limits.max_age_hours,
            "The newest prediction is {:.0f} hours old, monitoring.max_age_hours is {:g}",
        ),
    }
    values = {each.name: each for each in found if each.kind == "quality" and not each.subject}
    for name, (limit, what) in told.items():
        if metric := values.get(name):
            severity = "warning" if metric.value > limit else ""
            evidence = f"{what.format(metric.value, limit)}."
            yield Verdict("quality", name, "", metric.value, limit, severity, evidence)
    if metric := values.get("volume_ratio"):
        low, high = limits.min_volume_ratio, limits.max_volume_ratio
        severity = "" if low <= metric.value <= high else "warning"
        bound, which = (low, "min") if metric.value < low else (high, "max")
        evidence = (
            f"There are {metric.rows:,} predictions, {metric.value:.2f} times as many as before; "
            f"monitoring.{which}_volume_ratio is {bound:g}."
        )
        yield Verdict("quality", "volume_ratio", "", metric.value, bound, severity, evidence)
