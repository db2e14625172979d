"""The FastAPI application: health, the model, the Open Inference Protocol, and the description.

POST /predict and /invocations are described here and answered before FastAPI, see front.py.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request, Response, Security
from fastapi.responses import RedirectResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi_offline import FastAPIOffline

from .. import __doc__ as about
from ..contract import CONTRACT
from ..settings import PACKAGE, Settings
from . import inference_protocol, openapi, status_page
from .openapi import answer, problems
from .problems import Problem
from .wire import Answer

# Paths that need no credentials and are answered at any load: health checks, and the description
# of the API.
INFER = "/v2/models/{name}/infer"
# Routes that predict; health, models and documentation do not count for [slo].
PREDICTING = ("/predict", "/invocations", INFER)
HEALTH = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping")
DESCRIPTION, ASSETS = ("/", "/openapi.json", "/docs"), "/static-offline-docs/"
# Needs credentials; answered under overload too, because it shows the overload.
METRICS, STATUS = "/metrics", "/status"
PROTOCOL = "open inference protocol"
Name = Annotated[str, Path(examples=[PACKAGE])]


def application(config: Settings, service) -> FastAPI:
    """The application for a ``Service`` of app.py; without one it can only be described."""
    title, description, contact = about.strip().split("\n\n")
    name, _, email = contact.removeprefix("Contact: ").rstrip(">").rpartition(" <")
    make = FastAPIOffline if config.api.docs else FastAPI
    app = make(
        title=title,
        description=" ".join(description.split()),
        version=CONTRACT.version,
        contact={"name": name, "url": f"mailto:{email}"},
        docs_url="/docs" if config.api.docs else None,
        redoc_url=None,
        lifespan=service and service.life,
        redirect_slashes=False,
    )
    credentials = [
        Security(APIKeyHeader(name="X-API-Key", scheme_name="ApiKey", auto_error=False)),
        Security(HTTPBearer(scheme_name="Bearer", auto_error=False)),
    ]
    closed = APIRouter(dependencies=credentials)
    _add_predictions(closed)
    _add_model(closed, service)
    _add_inference_protocol(closed, service)
    app.include_router(closed)
    _add_health(app, service)
    if config.api.docs:
        app.add_api_route("/", lambda: RedirectResponse("docs"), include_in_schema=False)
    openapi.complete(app, config)
    return app


def _add_predictions(router: APIRouter) -> None:
    """Routes that front.py answers; they are here for the description only."""
    described: dict[str, Any] = {"tags": ["predictions"], "response_class": Response}
    described["responses"] = problems() | answer(Answer)

    @router.post(
        "/predict", operation_id="predict", openapi_extra=openapi.predict_body(), **described
    )
    async def predict(detail: bool = False) -> None:
        """Predictions for rows, given as columns; with their probabilities on request."""

    extra = openapi.invocations_body()

    @router.post("/invocations", operation_id="invocations", openapi_extra=extra, **described)
    async def invocations() -> None:
        """The same as MLflow, SageMaker and Azure ML ask it."""


def _add_model(router: APIRouter, service) -> None:
    @router.get("/model", tags=["model"], responses=problems(401, 503))
    async def model() -> dict[str, Any]:
        """The model that serves: version, alias, digest, metrics, contract."""
        return service.served.describe()

    @router.get("/version", include_in_schema=False)
    async def version() -> Response:
        """What MLflow's clients ask for."""
        return Response(service.served.version, media_type="text/plain")

    @router.get(STATUS, include_in_schema=False)
    async def status(request: Request) -> Response:
        if found := await asyncio.to_thread(status_page.read, request.headers.get("accept", "")):
            return Response(found[0], media_type=found[1])
        raise Problem(503, "not_ready", "the status is not known yet.")

    @router.get(METRICS, include_in_schema=False)
    async def metrics() -> Response:
        return await service.exposition()


def _add_health(app: FastAPI, service) -> None:
    @app.get("/health/live", tags=["health"])
    @app.get("/v2/health/live", tags=[PROTOCOL])
    async def live() -> dict[str, bool]:
        """Whether the process answers."""
        return {"live": True}

    @app.get("/health/ready", tags=["health"], responses=problems(503))
    @app.get("/ping", tags=["health"], responses=problems(503))
    @app.get("/v2/health/ready", tags=[PROTOCOL], responses=problems(503))
    async def ready() -> dict[str, bool]:
        """Whether a verified model answers its self-test."""
        await asyncio.to_thread(service.require_ready)
        return {"ready": True}


def _add_inference_protocol(router: APIRouter, service) -> None:
    """The routes of the Open Inference Protocol, version 2."""
    asked: dict[str, Any] = {"tags": [PROTOCOL], "responses": problems(401, 404, 422, 503)}

    @router.get("/v2", **asked)
    async def server() -> dict[str, Any]:
        return {"name": PACKAGE, "version": CONTRACT.version, "extensions": []}

    @router.get("/v2/models/{name}", **asked)
    @router.get("/v2/models/{name}/versions/{version}", **asked)
    async def model(name: Name, version: str | None = None) -> dict[str, Any]:
        inference_protocol.require(name, version, service.served)
        return inference_protocol.metadata(service.served)

    @router.get("/v2/models/{name}/ready", **asked)
    @router.get("/v2/models/{name}/versions/{version}/ready", **asked)
    async def ready(name: Name, version: str | None = None) -> dict[str, Any]:
        inference_protocol.require(name, version, service.served)
        return {"name": name, "ready": True}

    asked["responses"] = problems() | answer(inference_protocol.InferenceResponse)
    asked["openapi_extra"] = openapi.inference_body()

    @router.post(INFER, **asked)
    @router.post("/v2/models/{name}/versions/{version}/infer", **asked)
    async def infer(request: Request, name: Name, version: str | None = None) -> Response:
        call = request.scope["call"]
        if b"inference-header-content-length" in call.headers:
            raise Problem(415, "media_type", "send tensors as JSON, not in binary.")
        call.served = served = service.served
        inference_protocol.require(name, version, served)
        asked = inference_protocol.request(await call.body())
        rows = inference_protocol.rows(asked, served, service.config.api.max_rows)
        found = await service.answer(rows, call)
        body = service.encode(inference_protocol.answer(asked, served, found))
        return Response(body, media_type="application/json")
