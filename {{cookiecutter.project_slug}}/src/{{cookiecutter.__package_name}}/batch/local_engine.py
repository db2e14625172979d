"""The local engine: threads of this process score the sections of a run."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any

from tqdm import tqdm

from ..errors import ProjectError
from ..settings import Settings
from .results import Results
from .sections import Section, row_count

# Sections that are read and written at the same time; all workers score their batches.
PARTS_AT_ONCE = 2


def cores(config: Settings) -> int:
    """The number of threads that score."""
    return config.batch.workers or os.cpu_count() or 1


def score(run, sections: list[Section], results: Results) -> list[dict]:
    """Score the sections of a ``run.Run``; returns what ``Results.write`` returns for each."""
    workers, parts = cores(run.config), []
    with (
        tqdm(
            total=row_count(sections), desc="Scoring", unit=" rows", unit_scale=True, disable=None
        ) as bar,
        ThreadPoolExecutor(workers) as scorers,
        ThreadPoolExecutor(PARTS_AT_ONCE) as writers,
    ):
        spread = partial(_in_order, scorers, workers, run)
        pending = [writers.submit(results.write, run.model, each, spread) for each in sections]
        try:
            for done in as_completed(pending):
                parts.append(done.result())
                bar.update(parts[-1]["read"])
        except BaseException:
            run.stop.set()
            writers.shutdown(cancel_futures=True)
            raise
    return parts


def _in_order(
    scorers: Executor, most: int, run, function: Callable, items: Iterable
) -> Iterator[Any]:
    """As ``map``, but run by ``scorers``, at most ``most`` items ahead of the consumer."""
    ahead: deque[Future] = deque()
    for item in items:
        if run.stop.is_set():
            raise ProjectError(f"run {run.run_id} was stopped.")
        ahead.append(scorers.submit(function, item))
        if len(ahead) > most:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()
