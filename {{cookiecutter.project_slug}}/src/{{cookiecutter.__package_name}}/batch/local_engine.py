"""The local engine: the parts of a run scored by threads of this process, on all cores."""

import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait

import pyarrow as pa
from tqdm import tqdm

from ..contract import CONTRACT
from ..errors import ProjectError
from . import parts, results
from .parts import Part
from .results import Scored

# Parts that are read and written at a time; their batches are scored by all the workers.
PARTS_AT_ONCE = 2


def score(run, rows: int) -> Counter:
    """Score the missing parts of a ``scoring.Run``, a bounded number of them in memory.

    :param rows: in a part, about.
    """
    counts: Counter = Counter()
    inputs = parts.cut(run.uri, run.paths, CONTRACT.needed, rows, run.window)
    total = parts.row_count(run.paths)
    workers = run.config.batch.workers or os.cpu_count() or 1
    with (
        tqdm(total=total, desc="Scoring", unit=" rows", unit_scale=True, disable=None) as bar,
        ThreadPoolExecutor(workers) as scorers,
        ThreadPoolExecutor(PARTS_AT_ONCE) as pool,
    ):

        def add(found: dict) -> None:
            counts.update(found)
            bar.update(found["read"])

        pending: set = set()
        try:
            for part in inputs:
                if (found := run.results.counts(part.name)) is not None:
                    add(found)
                    continue
                pending.add(pool.submit(_score_part, run, part, scorers, workers))
                if len(pending) > PARTS_AT_ONCE:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for each in finished:
                        add(each.result())
            for each in pending:
                add(each.result())
        except BaseException:
            run.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return counts


def _score_part(run, part: Part, scorers: Executor, workers: int) -> dict:
    """Write one part's predictions and rejected rows, then the counts that say it is done."""
    with run.results.part(part.name) as out:
        for scored in _scored(run, part, scorers, workers):
            out.write(scored)
    return out.counts


def _scored(run, part: Part, scorers: Executor, workers: int) -> Iterator[Scored]:
    """The part's batches after scoring, in their order, at most ``workers`` of them ahead."""
    ahead: deque[Future] = deque()
    first = part.start
    for batch in part.batches():
        if run.stop.is_set():
            raise ProjectError(f"run {run.run_id} was stopped.")
        ahead.append(scorers.submit(_score_batch, run, batch, part.source, first))
        first += batch.num_rows
        if len(ahead) > workers:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _score_batch(run, batch: pa.RecordBatch, source: str, first: int) -> Scored:
    rows = results.check(batch, source, first)
    return run.results.scored(rows, results.score_valid(run.model, rows.checked))
