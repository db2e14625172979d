"""Requests that wait together go through the model together, without a timer.

A fast model runs on the event loop, once for all requests that arrived in the same turn of it. A
slow one, or a large request, runs in a thread, and what has queued while it ran goes next,
together. So a busy server needs fewer calls of the model, and an idle one answers at once.
"""

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec
import numpy as np

from ..models.predict import in_own_values
from .metrics import Metrics
from .problems import Problem
from .serving import Served
from .spool import Record, Spool
from .values import Rows, violated, violation

# A call of the model that takes longer than this keeps other requests waiting: off the loop.
LONGEST_ON_LOOP = 0.002
# Rows that go through the model together; a single request may have more.
MOST_ROWS = 10_000


class Predictions(NamedTuple):
    """A request's answers: values of the target, and the probability of each or None."""

    values: list
    probabilities: list | None


class Job(NamedTuple):
    """One request's rows on their way through a model."""

    served: Served
    rows: Rows
    request_id: str
    client: str
    queued: float
    answer: asyncio.Future


class Batcher:
    """Both ways through a model, and the record of every answer.

    :param spool: where answers are kept before they are given; None keeps none.
    :param seconds: how long a request may wait for the model.
    """

    def __init__(self, metrics: Metrics, spool: Spool | None, seconds: float) -> None:
        self.metrics, self.spool, self.seconds = metrics, spool, seconds
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "model")
        self._now: list[Job] = []
        self._now_rows = 0
        self._later: deque[Job] = deque()
        self._running = False
        self._encode = msgspec.json.Encoder().encode_lines

    async def predict(
        self, served: Served, rows: Rows, request_id: str, client: str
    ) -> Predictions:
        """:raises Problem: 503 the model took too long, 422 it has no answer for a row."""
        answer = self._loop.create_future()
        job = Job(served, rows, request_id, client, time.perf_counter(), answer)
        # All that go together must not take long.
        if served.seconds(self._now_rows + len(rows.matrix)) < LONGEST_ON_LOOP:
            if not self._now:
                # By then every request that is already here has joined.
                self._loop.call_soon(self._run_now)
            self._now.append(job)
            self._now_rows += len(rows.matrix)
            return await answer
        self._later.append(job)
        if not self._running:
            self._running = True
            self._loop.call_soon(self._run_later)
        try:
            async with asyncio.timeout(self.seconds):
                return await answer
        except TimeoutError:
            # While the model hangs, what nobody waits for must not pile up.
            self._later = deque(job for job in self._later if not job.answer.done())
            detail = f"the model did not answer within {self.seconds:g} seconds."
            raise Problem(503, "model_timeout", detail, {"Retry-After": "1"}) from None

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run_now(self) -> None:
        jobs, self._now, self._now_rows = self._now, [], 0
        while jobs:
            # Requests that came in before a model was replaced finish on that one.
            served = jobs[0].served
            mine = [job for job in jobs if job.served is served]
            jobs = [job for job in jobs if job.served is not served]
            began = time.perf_counter()
            try:
                self._finish(mine, score(mine), began)
            except Exception as error:
                self._fail(mine, error)

    def _run_later(self) -> None:
        jobs, rows = [], 0
        while self._later and (
            not jobs
            or (
                self._later[0].served is jobs[0].served
                and rows + len(self._later[0].rows.matrix) <= MOST_ROWS
            )
        ):
            job = self._later.popleft()
            if not job.answer.done():  # not given up meanwhile
                jobs.append(job)
                rows += len(job.rows.matrix)
        if not jobs:
            self._running = False
            return
        began = time.perf_counter()
        running = self._loop.run_in_executor(self._thread, score, jobs)
        running.add_done_callback(lambda done: self._ran(jobs, done, began))

    def _ran(self, jobs: list[Job], done: asyncio.Future, began: float) -> None:
        if done.cancelled():
            return
        try:
            self._finish(jobs, done.result(), began)
        except Exception as error:
            self._fail(jobs, error)
        self._run_later()

    def _finish(self, jobs: list[Job], scores, began: float) -> None:
        """Keep the answers, then give them."""
        codes, probabilities = scores
        values, finite = in_own_values(codes)
        listed = values.tolist()
        likely = None if probabilities is None else probabilities.tolist()
        answered, start = [], 0
        for job in jobs:
            end = start + len(job.rows.matrix)
            mine, start = slice(start, end), end
            self.metrics.queue_wait(began - job.queued)
            if job.answer.done():
                continue  # it took too long, or the client is gone: neither given nor kept
            if not finite[mine].all():
                _settle(job, _unanswered(codes[mine].tolist(), finite[mine]))
            else:
                self.metrics.predicted(values[mine])
                answered.append((job, Predictions(listed[mine], likely and likely[mine])))
        if self.spool and answered:
            self._keep(answered)
        for job, predictions in answered:
            _settle(job, predictions)

    def _keep(self, answered: list[tuple[Job, Predictions]]) -> None:
        now = time.time()
        records = [
            Record(
                job.request_id,
                now,
                job.client,
                job.served.name,
                job.served.version,
                job.rows.columns,
                *predictions,
            )
            for job, predictions in answered
        ]
        if not self.spool.append(self._encode(records), len(records)):
            self.metrics.not_kept(len(records))

    @staticmethod
    def _fail(jobs: list[Job], error: BaseException) -> None:
        for job in jobs:
            _settle(job, error)


def score(jobs: list[Job]):
    """Predictions and probabilities of all rows of the jobs, one after the other."""
    matrices = [job.rows.matrix for job in jobs]
    matrix = np.concatenate(matrices) if len(matrices) > 1 else np.ascontiguousarray(matrices[0])
    return jobs[0].served.codes(matrix)


def _settle(job: Job, outcome: Predictions | BaseException) -> None:
    if job.answer.done():
        return  # the client is gone, or the time was up
    if isinstance(outcome, BaseException):
        job.answer.set_exception(outcome)
    else:
        job.answer.set_result(outcome)


def _unanswered(values: list, finite: np.ndarray) -> Problem:
    rows = np.flatnonzero(~finite)
    return violated([violation("prediction", row, values[row], "is not finite") for row in rows])
