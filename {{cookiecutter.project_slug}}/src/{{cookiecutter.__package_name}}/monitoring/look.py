"""Look at a window of predictions: everything that can be computed about it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa

from ..errors import ProjectError
from ..models import stores
from ..models.reference import Reference, reference_of
from ..settings import Settings
from ..tables.monitored import metrics, of_windows, utc
from .drift import Drift, drifts
from .performance import performance
from .predictions import Predicted, Source
from .records import Metric, Period, Verdict, database

# Labelled rows that are evaluated, at most; of more, a random sample.
MOST_LABELLED = 100_000
# Earlier windows in which the volume of the last one that does not overlap is looked for.
MOST_WINDOWS = 1_000


@dataclass
class OfVersion:
    """What was found about one version of the model.

    ``counts`` are those of the window in the bins of ``reference``, ``rejections`` are by column
    and reason. ``notes`` are sentences about what could not be computed, ``unknown`` the kinds of
    alerts that cannot be judged, ``verdicts`` what was judged.
    """

    version: str
    rows: int
    metrics: list[Metric] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    reference: Reference | None = None
    counts: dict | None = None
    rejections: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=lambda: {"performance", "drift"})
    verdicts: list[Verdict] = field(default_factory=list)


@dataclass
class Looked:
    """What was found about a source's predictions in a period, the newest version last.

    ``metrics`` and ``verdicts`` are about all versions together, ``judged`` tells whether alerts
    follow from them.
    """

    source: str
    period: Period
    versions: list[OfVersion]
    metrics: list[Metric]
    judged: bool = False
    verdicts: list[Verdict] = field(default_factory=list)


def look(source: Source, period: Period, config: Settings) -> Looked:
    """Compute what there is to know; where a part cannot be computed, the rest still is.

    :raises ProjectError: the predictions cannot be read.
    """
    predicted = source.predicted(period)
    versions = [_look(source, each, config) for each in predicted]
    return Looked(source.name, period, versions, [*_volume(source, period, predicted, config)])


def _look(source: Source, predicted: Predicted, config: Settings) -> OfVersion:
    found = OfVersion(predicted.version, predicted.rows)
    for part in (_add_performance, _add_rejections, _add_duplicates, _add_drift):
        try:
            part(found, source, predicted, config)
        except ProjectError as problem:
            found.notes.append(str(problem))
    return found


def _add_performance(
    found: OfVersion, source: Source, predicted: Predicted, config: Settings
) -> None:
    labelled = source.labelled(predicted, MOST_LABELLED)
    rows = len(labelled.target)
    share = labelled.rows / predicted.rows
    share = Metric("quality", "labelled_share", "", share, predicted.rows)
    found.metrics.append(share)
    if not rows:
        found.notes.append("No prediction has a label: the quality of the model is not known.")
        return
    few = rows < config.monitoring.minimum_labels
    if few:
        found.notes.append(f"There are only {rows:,} labels: too few to judge the model.")
    else:
        found.unknown.discard("performance")
    found.metrics += performance(labelled, config.training.seed, not few)


def _add_rejections(found: OfVersion, source: Source, predicted: Predicted, _: Settings) -> None:
    if predicted.rejected is not None:
        read = predicted.rows + predicted.rejected
        share = predicted.rejected / max(read, 1)
        found.metrics.append(Metric("quality", "rejected_share", "", share, read))
        found.rejections, by_column = source.rejections(predicted), Counter()
        for (column, reason), count in found.rejections.items():
            new = "new_categories" if reason.startswith("is not one of") else "rejected"
            by_column[new, column] += count
        for (name, column), count in by_column.items():
            found.metrics.append(Metric("quality", name, column, count, read))


def _add_duplicates(found: OfVersion, source: Source, predicted: Predicted, _: Settings) -> None:
    repeated = source.duplicates(predicted)
    if repeated is not None:
        share = repeated / max(predicted.rows, 1)
        found.metrics.append(Metric("quality", "duplicate_share", "", share, predicted.rows))


def _add_drift(found: OfVersion, source: Source, predicted: Predicted, config: Settings) -> None:
    """The drift of each column, and the shares of missing values."""
    reference = _reference(predicted, config)
    counts = source.counts(predicted, reference)
    if counts is None:
        raise ProjectError("The runs of this window have no counts: there is no drift.")
    found.reference, found.counts = reference, counts
    found.drifts = drifts(reference, counts, source.inputs(predicted))
    if found.drifts[0].rows >= config.monitoring.minimum_rows:
        found.unknown.discard("drift")
    for name, (*_, missing) in counts["columns"].items():
        rows = int(sum(counts["columns"][name]))
        if missing:
            found.metrics.append(Metric("quality", "missing_share", name, missing / rows, rows))
    for each in found.drifts:
        found.metrics.append(Metric("drift", "psi", each.subject, each.psi, each.rows))
        found.metrics.append(Metric("drift", "p_value", each.subject, each.p, each.rows))


def _reference(predicted: Predicted, config: Settings) -> Reference:
    """The reference of a version, from ``models.uri`` or from the registry.

    :raises ProjectError: there is no such version, or it was saved without a reference.
    """
    version, problem = predicted.version, ""
    for uri in (config.models.uri, f"models:/{predicted.name}/{version}"):
        try:
            found = stores.load_model(uri, config)
        except ProjectError as error:
            problem = f" ({error})"
            continue
        same = predicted.sha256 in (None, found.metadata["sha256"])
        same &= (found.name, found.version) == (predicted.name, version)
        if same and (reference := reference_of(found)):
            return reference
    raise ProjectError(
        f"There is no training reference of version {version}, so no drift{problem}."
    )


def _volume(
    source: Source, period: Period, predicted: list[Predicted], config: Settings
) -> Iterator[Metric]:
    """The rows of all versions, compared with earlier windows, and the age of the newest one."""
    of, length = metrics.c, period.end - period.start
    query = sa.select(of.value, of.window_start, of.window_end).where(
        *of_windows(source.name), of.name == "predictions", of.window_end < period.end
    )
    with database(config.database) as connection:
        before = connection.execute(query.order_by(of.window_end.desc()).limit(MOST_WINDOWS)).all()
    rows = sum(each.rows for each in predicted)
    yield Metric("quality", "predictions", "", rows, rows)
    if newest := source.newest(period.end):
        age = (period.end - newest).total_seconds() / 3600
        yield Metric("quality", "age_hours", "", age, rows)
    for each in before:
        apart = utc(each.window_end) <= period.start
        if each.value and apart and each.window_end - each.window_start == length:
            yield Metric("quality", "volume_ratio", "", rows / each.value, rows)
            break
