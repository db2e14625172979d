"""The API: puts together the served model, the FastAPI application, and ``Front``."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from .. import settings
from ..contract import CONTRACT
from ..errors import brief
from ..models.artifact import self_test
from ..models.predict import Scores, in_own_values
from ..settings import Settings
from . import metrics, mlflow_protocol
from .auth import Authenticator
from .front import AGAIN, INTERNAL, Call, Front
from .logs import JsonLines
from .metrics import Metrics
from .problems import CONTENT_TYPE, Problem
from .processes import end_with_parents
from .routes import PREDICTING, application
from .serving import Predictions, Served, Shelf, settle
from .spool import Record, Spool
from .values import Rows, violated, violation
from .wire import Answer, Named, PredictRequest

log = logging.getLogger(__name__)
TICK_SECONDS = 1.0
# Seconds; a longer call of the model runs in a thread, so that it does not block other requests.
LONGEST_ON_LOOP = 0.002
JSON = "application/json"
TRUE = ("true", "1", "yes", "on")


class Service:
    """The state that the routes of one worker share."""

    def __init__(self, config: Settings, lines: JsonLines, authenticator: Authenticator) -> None:
        self.config, self.lines, self.authenticator = config, lines, authenticator
        self.metrics = Metrics(CONTRACT, config.api.max_in_flight, PREDICTING)
        self.shelf = Shelf(Path(config.models.uri), config.models.allow_pickle)
        self.metrics.serves(self.served)
        self.request = PredictRequest(CONTRACT, config.api.max_rows)
        self.spool: Spool | None = None
        if config.keeping.enabled:
            self.spool = Spool(Path(config.keeping.spool), config.keeping.spool_mb << 20)
        self.threads = ThreadPoolExecutor(os.cpu_count(), "model")
        self.encode = msgspec.json.Encoder().encode

    @property
    def served(self) -> Served:
        return self.shelf.served

    @asynccontextmanager
    async def life(self, _: FastAPI) -> AsyncIterator[None]:
        """The lifespan of the application: starts and ends what runs next to requests."""
        tasks = [asyncio.create_task(forever(step)) for step in (self._tick, self._reload)]
        settle()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self.threads.shutdown(wait=False, cancel_futures=True)
            if self.spool:
                self.spool.close()
            await asyncio.to_thread(self.lines.flush)

    def require_ready(self) -> None:
        """:raises Problem: 503, the model fails its self-test."""
        try:
            self_test(self.served.model)
        except Exception as error:  # any error means that it is not ready
            raise Problem(503, "not_ready", f"{brief(error)}.") from None

    async def _tick(self) -> None:
        """Tasks that run every second."""
        await asyncio.sleep(TICK_SECONDS)
        end_with_parents()
        self.authenticator.refresh()
        if self.spool:
            self.spool.tick()
            self.metrics.spool(self.spool.filled)
        self.metrics.tick()

    async def _reload(self) -> None:
        """Load the model again if its folder has changed."""
        await asyncio.sleep(self.config.api.reload_seconds)
        outcome = await asyncio.to_thread(self.shelf.refresh)
        if outcome is not None:
            self.metrics.reloaded(outcome)
        if outcome:
            self.metrics.serves(self.served)

    async def answer(self, rows: Rows, call: Call) -> Predictions:
        """Predict valid rows with the call's model; keeps and counts the predictions.

        :raises Problem: 503 the model took too long, 422 a prediction is not finite.
        """
        served, matrix = call.served, np.ascontiguousarray(rows.matrix)
        if served.seconds(len(matrix)) < LONGEST_ON_LOOP:
            scores = served.model.score(matrix)
        else:
            scores = await self._apart(served, matrix)
        values, finite = in_own_values(scores.codes)
        if not finite.all():
            raise _unanswered(scores.codes, finite)
        listed = None if scores.probability is None else scores.probability.tolist()
        found = Predictions(values.tolist(), listed, scores.probabilities)
        self.metrics.predicted(values if CONTRACT.target.classes else scores.codes)
        if self.spool and not self._keep(rows, found, call):
            self.metrics.not_kept()
        return found

    async def _apart(self, served: Served, matrix: np.ndarray) -> Scores:
        """Call a slow model in a thread, with a time limit."""
        seconds = self.config.api.prediction_seconds
        running = asyncio.get_running_loop().run_in_executor(
            self.threads, served.model.score, matrix
        )
        try:
            return await asyncio.wait_for(running, seconds)
        except TimeoutError:
            detail = f"the model did not answer within {seconds:g} seconds."
            raise Problem(503, "model_timeout", detail, AGAIN) from None

    def _keep(self, rows: Rows, found: Predictions, call: Call) -> bool:
        who = (call.request_id, time.time(), call.client, call.served.name, call.served.version)
        record = Record(*who, rows.columns, found.predictions, found.probabilities)
        return self.spool.append(self.encode(record) + b"\n")

    async def exposition(self) -> Response:
        """GET /metrics"""
        self.metrics.flush()
        body = await asyncio.to_thread(metrics.exposition)
        return Response(body, media_type=metrics.EXPOSITION)

    async def predict(self, call: Call) -> bytes:
        """POST /predict"""
        if media_type(call.headers) != JSON:
            raise Problem(415, "media_type", "send application/json.")
        body = await call.body()
        call.served = served = self.served
        rows = self.request.read(body, served.name)
        detail = bool(query := call.scope["query_string"]) and wants_detail(query)
        found = await self.answer(rows, call)
        answer = Answer(found.predictions)
        if detail:
            answer.probabilities = found.probabilities
            answer.class_probabilities = found.by_class()
            answer.model = Named(served.name, served.version)
        return self.encode(answer)

    async def invocations(self, call: Call) -> bytes:
        """POST /invocations"""
        kind, body = media_type(call.headers), await call.body()
        call.served = self.served
        rows = mlflow_protocol.rows(CONTRACT, kind, body, self.config.api.max_rows)
        found = await self.answer(rows, call)
        return self.encode(Answer(found.predictions))


def _unanswered(codes: np.ndarray, finite: np.ndarray) -> Problem:
    rows = np.flatnonzero(~finite)
    told = "is not finite"
    return violated([violation("prediction", row, codes[row].item(), told) for row in rows])


async def forever(step: Callable[[], Awaitable[None]]) -> None:
    """Call a step again and again; an error is logged and does not end the loop."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("%s failed.", step.__name__)
            await asyncio.sleep(TICK_SECONDS)


def media_type(headers: dict[bytes, bytes]) -> str:
    """The media type of a request; JSON if it names none."""
    given = headers.get(b"content-type")
    if given in (None, b"application/json"):
        return JSON
    kind, _, parameters = given.decode("latin-1").lower().partition(";")
    charset = parameters.partition("charset=")[2].strip(' "')
    if charset not in ("", "utf-8", "utf8"):
        raise Problem(415, "media_type", "send UTF-8.")
    return kind.strip() or JSON


def wants_detail(query: bytes) -> bool:
    """:raises Problem: 422, there is another parameter than ``detail``, or it is no boolean."""
    wanted = False
    for part in filter(None, query.split(b"&")):
        name, _, value = part.decode("latin-1").partition("=")
        if name != "detail":
            raise Problem(422, "parameter", f"there is no parameter {name[:100]!r}, only detail.")
        if value.lower() not in (*TRUE, "false", "0", "no", "off"):
            raise Problem(422, "parameter", "detail is true or false.")
        wanted = value.lower() in TRUE
    return wanted


def make_front() -> Front:
    """The ASGI application of one worker process.

    :raises ProjectError: no model that passes its checks, no credentials where they are required.
    """
    config = settings.load()
    lines, authenticator = JsonLines(), Authenticator(config.authentication)
    service = Service(config, lines, authenticator)
    app = application(config, service)
    front = Front(
        app,
        {"/predict": service.predict, "/invocations": service.invocations},
        config.api,
        authenticator,
        service.metrics,
        lines if config.api.access_log else None,
    )
    for kind in (Problem, HTTPException, Exception):
        app.add_exception_handler(kind, _refuse(front))
    lines.install(config.log_level)
    return front


def _refuse(front: Front):
    """A handler that answers errors of FastAPI's routes in the same form as ``Front``."""

    async def refuse(request: Request, error: Exception) -> Response:
        call: Call = request.scope["call"]
        if isinstance(error, HTTPException):
            headers, code, detail = dict(error.headers or {}), "path", "there is no such path"
            if error.status_code == 405:
                code, detail = "method", f"this path takes {headers['Allow']}"
            error = Problem(error.status_code, code, f"{detail}.", headers)
        elif not isinstance(error, Problem):
            error = INTERNAL
        body = front.problem_body(call, error)
        return Response(body, error.status, error.headers, media_type=CONTENT_TYPE)

    return refuse
