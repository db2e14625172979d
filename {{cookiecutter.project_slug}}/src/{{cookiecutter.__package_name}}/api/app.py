"""The API: one served model behind a FastAPI application, and the guard before it.

``create`` makes the application of one worker process; uvicorn calls it (serve.py).
"""

import asyncio
import logging
import multiprocessing
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from .. import settings
from ..contract import CONTRACT
from ..errors import ProjectError, brief
from ..models.artifact import self_test
from ..settings import PACKAGE, Settings
from . import follow, metrics, mlflow_protocol, openapi
from .auth import Authenticator
from .batching import Batcher, Predictions
from .companion import EXIT_SECONDS, leave_within
from .guard import INTERNAL, Call, Guard
from .json_logs import JsonLines
from .metrics import Metrics
from .problems import CONTENT_TYPE, Problem
from .protocol import BoundedProtocol
from .routes import routes
from .serving import Shelf, settle
from .spool import Spool
from .values import Rows
from .wire import Answer, PredictRequest

log = logging.getLogger(__name__)
TICK_SECONDS = 1.0
ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")
TRUE = ("true", "1", "yes", "on")


class Service:
    """What the routes of one worker share."""

    def __init__(self, config: Settings, lines: JsonLines) -> None:
        self.config, self.lines = config, lines
        self.metrics = Metrics(CONTRACT, config.api.max_in_flight)
        self.shelf = Shelf(Path(config.models.uri), config.models.allow_pickle)
        self.metrics.serves(self.served)
        self.request = PredictRequest(CONTRACT, config.api.max_rows)
        self.spool: Spool | None = None
        self.unfit: str | None = None
        self.encode = msgspec.json.Encoder().encode

    @property
    def served(self):
        return self.shelf.served

    @asynccontextmanager
    async def life(self, _: FastAPI) -> AsyncIterator[None]:
        """From the first request to the last: what runs beside them."""
        keeping = self.config.keeping
        if keeping.enabled:
            self.spool = Spool(Path(keeping.spool), keeping.spool_mb << 20)
        self.batcher = Batcher(self.metrics, self.spool, self.config.api.prediction_seconds)
        tasks = [asyncio.create_task(forever(step)) for step in (self._tick, self._reload)]
        self._tell_of_source()
        settle()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self.batcher.close()
            if self.spool:
                self.spool.close()
            if multiprocessing.parent_process():
                leave_within(EXIT_SECONDS)
            # A worker process ends by the signal that it was sent, without Python's own last steps.
            await asyncio.to_thread(self.lines.flush)

    def require_ready(self) -> None:
        """:raises Problem: 503, the model does not answer as it did when it was saved."""
        try:
            self_test(self.served.model)
        except Exception as error:  # whatever a model may raise, it is not ready
            raise Problem(503, "not_ready", f"{brief(error)}.") from None

    async def _tick(self) -> None:
        """What is due every second."""
        await self.metrics.tick(TICK_SECONDS)
        parent = multiprocessing.parent_process()
        if parent and not parent.is_alive():
            signal.raise_signal(signal.SIGTERM)  # nobody would end this worker
        if self.spool:
            self.spool.seal()
            self.metrics.spool(self.spool.filled, self.spool.limit)
        self.guard.authenticator.refresh()
        self._tell_of_source()

    def _tell_of_source(self) -> None:
        """What `follow` says of the registry, where the model comes from one."""
        if self.shelf.folder == Path(self.config.api.models):
            status = follow.status(self.shelf.folder, self.config.api.reload_seconds)
            self.metrics.source(status.up, status.checked)
            if status.unfit not in (None, self.unfit):
                self.metrics.reloaded(False)
            self.unfit = status.unfit

    async def _reload(self) -> None:
        """Serve what the model's folder holds now."""
        await asyncio.sleep(self.config.api.reload_seconds)
        outcome = await asyncio.to_thread(self.shelf.refresh)
        if outcome is not None:
            self.metrics.reloaded(outcome)
        if outcome:
            self.metrics.serves(self.served)

    async def answer(self, rows: Rows, call: Call) -> Predictions:
        """Predictions of the call's model for rows that keep the contract."""
        self.metrics.rows(len(rows.matrix))
        return await self.batcher.predict(call.served, rows, call.request_id, call.client)

    async def exposition(self) -> Response:
        """GET /metrics"""
        self.metrics.flush()
        body = await asyncio.to_thread(metrics.exposition)
        return Response(body, media_type=metrics.EXPOSITION)

    async def predict(self, call: Call) -> None:
        """POST /predict"""
        if media_type(call.header(b"content-type")) != "application/json":
            raise Problem(415, "media_type", "send application/json.")
        body = await call.body()
        call.served = served = self.served
        rows = self.request.read(body, served.name)
        found = await self.answer(rows, call)
        answer = Answer(found.values)
        if call.scope["query_string"] and wants_detail(call.scope["query_string"]):
            answer.probabilities = found.probabilities
            answer.model = {"name": served.name, "version": served.version}
        await call.answer(self.encode(answer))

    async def invocations(self, call: Call) -> None:
        """POST /invocations"""
        kind, body = media_type(call.header(b"content-type")), await call.body()
        rows = mlflow_protocol.rows(CONTRACT, kind, body, self.config.api.max_rows)
        call.served = self.served
        found = await self.answer(rows, call)
        await call.answer(self.encode(Answer(found.values)))


async def forever(step: Callable[[], Awaitable[None]]) -> None:
    """One step after the other; one that fails is logged, and does not end the others."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("%s failed.", step.__name__)
            await asyncio.sleep(TICK_SECONDS)


def media_type(header: bytes) -> str:
    """The media type of a Content-Type header; JSON where there is none."""
    kind, _, parameters = header.decode("latin-1").lower().partition(";")
    charset = parameters.partition("charset=")[2].strip(' "')
    if charset not in ("", "utf-8", "utf8"):
        raise Problem(415, "media_type", "send UTF-8.")
    return kind.strip() or "application/json"


def wants_detail(query: bytes) -> bool:
    """:raises Problem: 422, the parameter ``detail`` is there and no boolean."""
    for part in query.split(b"&"):
        name, _, value = part.decode("latin-1").partition("=")
        if name == "detail":
            if value.lower() not in (*TRUE, "false", "0", "no", "off"):
                raise Problem(422, "parameter", "detail is true or false.")
            return value.lower() in TRUE
    return False


def create() -> Guard:
    """The ASGI application of a worker.

    :raises ProjectError: no model that passes its checks, no credentials where they are required.
    """
    config = settings.load()
    lines = JsonLines(settings.root() / "log")
    BoundedProtocol.limits = config.api
    authenticator = _authenticator(config)
    service = Service(config, lines)
    app = FastAPI(
        lifespan=service.life,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.include_router(routes(service))
    open_paths = _add_docs(app, config) if config.api.docs else ()
    if not config.api.metrics_port:
        app.add_api_route("/metrics", service.exposition, include_in_schema=False)
    for kind in (Problem, HTTPException, Exception):
        app.add_exception_handler(kind, _refuse)
    service.guard = Guard(
        app,
        {"/predict": service.predict, "/invocations": service.invocations},
        config.api,
        authenticator,
        service.metrics,
        lines if config.api.access_log else None,
        open_paths,
    )
    lines.install(config.log_level)
    return service.guard


def _authenticator(config: Settings) -> Authenticator:
    """:raises ProjectError: it cannot be used, or the keys of tokens cannot be had."""
    authenticator = Authenticator(config.authentication)
    try:
        authenticator.prepare()
    except ProjectError as error:
        # A worker that takes a dead one's place goes on without: the process above has had them,
        # and it asks for them again by itself.
        if not multiprocessing.parent_process():
            raise
        log.warning("%s", error)
    return authenticator


def _add_docs(app: FastAPI, config: Settings) -> tuple[str, ...]:
    """/docs with assets of its own, for networks that reach no other; returns what is open."""

    @cache
    def document() -> dict:
        return openapi.document(config)

    async def described() -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(document))

    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=PACKAGE,
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="docs/favicon.png",
        )

    async def start() -> Response:
        return RedirectResponse("docs")

    app.add_api_route("/openapi.json", described, include_in_schema=False)
    app.add_api_route("/", start, include_in_schema=False)
    app.add_api_route("/docs", docs, include_in_schema=False)
    for name in ASSETS:
        app.add_api_route(f"/docs/{name}", _asset(name), include_in_schema=False)
    return ("/", "/openapi.json", "/docs", *(f"/docs/{name}" for name in ASSETS))


def _asset(name: str):
    with resources.as_file(resources.files("fastapi_offline") / "static" / name) as file:

        async def asset() -> FileResponse:
            return FileResponse(file)

    return asset


async def _refuse(request: Request, error: Exception) -> Response:
    """The answer to what FastAPI's routes raise, in the same form as the guard's own."""
    call: Call = request.scope["call"]
    if isinstance(error, HTTPException):
        error = Problem(error.status_code, "path", f"{error.detail}.", dict(error.headers or {}))
    elif not isinstance(error, Problem):
        error = INTERNAL
    body = call.problem_body(error)
    return Response(body, error.status, error.headers, media_type=CONTENT_TYPE)
