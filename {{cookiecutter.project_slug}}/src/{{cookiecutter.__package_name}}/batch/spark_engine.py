"""The Spark engine: the executors of a Spark master score the sections of a run.

A task scores one section or, if there are more than MOST_TASKS, several. It does what the local
engine does: the same batches, the same model, the same files. Nothing is shuffled. An attempt's
folder must be in the cloud, or on storage that the driver and the executors share.
"""

from collections.abc import Iterator
from functools import lru_cache, partial

import pyarrow as pa

from ..contract import CONTRACT
from ..errors import ProjectError
from ..models import stores
from ..models.predict import Model
from ..settings import Models, Settings
from ..tables.storage import folder
from . import sections
from .results import Results
from .sections import Section
from .spark_session import apart, cause, session

MOST_TASKS = 1_000
WRITTEN = "part string, read long, predicted long, rejected long, binned array<long>"


def score(run, found: list[Section], results: Results) -> list[dict]:
    """As ``local_engine.score``, on ``batch.master``.

    :raises ProjectError: there is no session, or a task has failed too often.
    """
    stored = folder(f"{results.attempt}-model")
    try:
        if found[0].uri:  # the result of a query may change: read it once, here
            found = list(sections.store(found[0], CONTRACT.needed, results.attempt))
        # A copy, so that executors need no registry and all get the same version.
        model = stores.copy(run.model_uri, str(stored), run.config)
        sha256, allowed = run.model.metadata["sha256"], run.config.models.allow_pickle
        task = partial(_write, found, results, partial(_model, model, sha256, allowed))
        with session(run.config.batch) as spark:
            numbers = spark.range(0, len(found), 1, min(len(found), MOST_TASKS))
            tasks = numbers.mapInArrow(task, WRITTEN)
            return [row.asDict() for row in apart(partial(_collect, tasks))]
    finally:
        stored.clear()


def _write(found, results: Results, model, tasks: Iterator) -> Iterator[pa.RecordBatch]:
    """Runs on an executor: writes the parts of the sections with the given numbers."""
    for task in tasks:
        for number in task.column(0).to_pylist():
            written = results.write(model(), found[number])
            yield pa.RecordBatch.from_pylist([written])


@lru_cache(maxsize=1)
def _model(uri: str, sha256: str, allow_pickle: bool) -> Model:
    """The model, opened once in each process of an executor."""
    settings = Settings.model_construct(models=Models(allow_pickle=allow_pickle))
    model = stores.load_model(uri, settings)
    if model.metadata["sha256"] != sha256:
        raise ProjectError("the model was replaced while the run began: start it again.")
    return model


def _collect(tasks) -> list:
    """What all tasks return; if one has failed, its error is raised as a ProjectError."""
    from pyspark.errors import PySparkException

    try:
        return tasks.collect()
    except PySparkException as error:
        name, _, what = cause(error).partition(": ")
        if name.endswith(ProjectError.__name__):
            raise ProjectError(f"{what}.") from error
        raise ProjectError(f"Spark: {name}: {what}" if what else f"Spark: {name}.") from error
