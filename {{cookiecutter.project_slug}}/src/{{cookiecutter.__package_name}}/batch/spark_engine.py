"""The Spark engine: the parts of a run scored by the executors of a Spark master.

A task reads and checks the batches of a part, MLflow's Spark function answers to them, and the
same task writes the part's files. Nothing is shuffled. A row of Spark's is one batch of ours, so
that both engines give the model the same batches and leave the same files. A task that is
repeated or runs twice writes the same files again, so it does not matter who dies when.

Input, output and staging folders must be on storage that the driver and the executors share.
"""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa

from ..contract import CONTRACT
from ..errors import ProjectError
from ..models.predict import Scores
from . import parts, results
from .parts import Part, Section
from .results import Results
from .spark_session import apart, cause, session

# A batch on its way: of which part, its valid rows as numbers, and all the rest of it; a part
# that has no batches, or was finished before, is one row without rest.
CHECKED = "part string, matrix array<float>, rest binary"
COUNTED = ("read", "predicted", "rejected")
COUNTS = "part string, read long, predicted long, rejected long"
CHECKED_ARROW = pa.schema(
    [("part", pa.string()), ("matrix", pa.list_(pa.float32())), ("rest", pa.binary())]
)


def score(run, rows: int) -> Counter:
    """Score the missing parts of a ``scoring.Run`` on ``batch.master``.

    :param rows: in a part, about.
    :raises ProjectError: there is no session, or a task has failed too often.
    """
    from . import spark_model  # with the registry, which executors do without

    counts: Counter = Counter()
    sections = []
    for section in _sections(run, rows):
        if (found := section.name and run.results.counts(section.name)) is None:
            sections.append(section)
        else:
            counts.update(found)
    if not sections:
        return counts
    work = run.results.unfinished

    def job() -> list:
        predict = spark_model.function(spark, run.model_uri, run.model, run.config, work)
        tasks = spark.range(0, len(sections), 1, len(sections))
        checked = tasks.mapInArrow(reader(sections, rows, run.results), CHECKED)
        scored = checked.withColumn("scores", predict("matrix"))
        return _collect(scored.mapInArrow(writer(run.results), COUNTS), run.run_id)

    with session(run.config.batch, work) as spark:
        for row in apart(job):
            counts.update(parts=1, **{name: row[name] for name in COUNTED})
    return counts


def _sections(run, rows: int) -> Iterator[Section]:
    """Where tasks find their rows; what a query gives is kept first, as it may change."""
    if run.paths:
        yield from parts.outline(run.paths, rows)
        return
    for part in parts.cut(run.uri, [], CONTRACT.needed, rows, run.window):
        yield parts.store(part, run.results.unfinished)


def reader(sections: list[Section], rows: int, target: Results) -> Callable:
    """What a task does first: read and check its parts, whose number it is given."""

    def read(tasks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for task in tasks:
            for number in task.column(0).to_pylist():
                for part in parts.read(sections[number], CONTRACT.needed, rows):
                    yield from _checked(part, target)

    return read


def _checked(part: Part, target: Results) -> Iterator[pa.RecordBatch]:
    if target.counts(part.name) is None:
        first = part.start
        for batch in part.batches():
            rows = results.check(batch, part.source, first)
            matrix = results.valid_matrix(rows.checked)
            rows.checked.matrix = matrix[:0]  # it goes by itself
            yield _row(part.name, matrix, pickle.dumps(rows))
            first += batch.num_rows
    yield _row(part.name, np.empty(0, np.float32), None)


def _row(name: str, matrix: np.ndarray, rest: bytes | None) -> pa.RecordBatch:
    numbers = pa.ListArray.from_arrays(np.array([0, matrix.size], np.int32), matrix.ravel())
    columns = [pa.array([name]), numbers, pa.array([rest], pa.binary())]
    return pa.RecordBatch.from_arrays(columns, schema=CHECKED_ARROW)


def writer(target: Results) -> Callable:
    """What a task does last: write its parts; gives their counts."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for name, rows in groupby(chain.from_iterable(map(_rows, batches)), itemgetter(0)):
            counts = _write(name, rows, target)
            row = {"part": name, **{each: counts[each] for each in COUNTED}}
            yield pa.RecordBatch.from_pylist([row])

    return write


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[str, bytes | None, Scores]]:
    """Part, rest and the model's answers of each row."""
    scores = batch.column("scores")
    answers = [scores.field(name) for name in ("labels", "probability")]
    for at, (name, rest) in enumerate(zip(batch.column("part"), batch.column("rest"), strict=True)):
        labels, probability = (each[at].values.to_numpy(zero_copy_only=False) for each in answers)
        yield name.as_py(), rest.as_py(), (labels, probability if len(probability) else None)


def _write(name: str, rows: Iterator[tuple], target: Results) -> dict:
    """Write one part, unless it was finished before; returns its counts."""
    row = next(rows)
    if row[1] is None and (found := target.counts(name)) is not None:
        return found
    with target.part(name) as out:
        for _, rest, (labels, probability) in chain([row], rows):
            if rest is not None:
                # Spark brings it from the same task's other process.
                checked = pickle.loads(rest)  # noqa: S301
                out.write(target.scored(checked, (labels, probability)))
    return out.counts


def _collect(written, run_id: str) -> list:
    """The counts of all parts, when all tasks have ended well."""
    from pyspark.errors import PySparkException

    try:
        return written.collect()
    except PySparkException as error:
        name, _, what = cause(error).partition(": ")
        if name.endswith(ProjectError.__name__):
            raise ProjectError(f"{what}.") from error
        what = f"Spark: {name}: {what}" if what else f"Spark: {name}"
        raise ProjectError(f"{what}. Run {run_id} goes on when started again.") from error
