"""The routes that FastAPI answers: health, the model, the Open Inference Protocol.

POST /predict and /invocations are answered before FastAPI, see guard.py.
"""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from ..contract import CONTRACT
from ..settings import PACKAGE
from . import inference_protocol


def routes(service) -> APIRouter:
    """The routes over a ``Service`` of app.py; without one they can only be described."""
    router = APIRouter()

    @router.get("/health/live", tags=["health"])
    @router.get("/v2/health/live", tags=["open inference protocol"])
    async def live() -> dict[str, bool]:
        """Whether the process answers."""
        return {"live": True}

    @router.get("/health/ready", tags=["health"])
    @router.get("/ping", tags=["health"])
    @router.get("/v2/health/ready", tags=["open inference protocol"])
    async def ready() -> dict[str, bool]:
        """Whether a verified model answers its self-test."""
        await asyncio.to_thread(service.require_ready)
        return {"ready": True}

    @router.get("/model", tags=["model"])
    async def model() -> dict[str, Any]:
        """The model that serves: version, alias, digest, metrics, contract."""
        return service.served.describe()

    @router.get("/version", tags=["model"], include_in_schema=False)
    async def version() -> Response:
        """What MLflow's clients ask for."""
        return Response(service.served.version, media_type="text/plain")

    _add_inference_protocol(router, service)
    return router


def _add_inference_protocol(router: APIRouter, service) -> None:
    """The routes of the Open Inference Protocol, version 2."""
    tags: Any = ["open inference protocol"]

    @router.get("/v2", tags=tags)
    async def server() -> dict[str, Any]:
        return {"name": PACKAGE, "version": CONTRACT.version, "extensions": ["binary_tensor_data"]}

    @router.get("/v2/models/{name}", tags=tags)
    @router.get("/v2/models/{name}/versions/{version}", tags=tags)
    async def model(name: str, version: str | None = None) -> dict[str, Any]:
        inference_protocol.require(name, version, service.served)
        return inference_protocol.metadata(CONTRACT, service.served)

    @router.get("/v2/models/{name}/ready", tags=tags)
    @router.get("/v2/models/{name}/versions/{version}/ready", tags=tags)
    async def ready(name: str, version: str | None = None) -> dict[str, Any]:
        inference_protocol.require(name, version, service.served)
        return {"name": name, "ready": True}

    @router.post("/v2/models/{name}/infer", tags=tags)
    @router.post("/v2/models/{name}/versions/{version}/infer", tags=tags)
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        call = request.scope["call"]
        call.served = served = service.served
        inference_protocol.require(name, version, served)
        length = call.header(b"inference-header-content-length")
        most = service.config.api.max_rows
        rows, asked = inference_protocol.rows(CONTRACT, await call.body(), length, most)
        found = await service.answer(rows, call)
        body = inference_protocol.answer(name, served.version, asked, found)
        return Response(body, media_type="application/json")
