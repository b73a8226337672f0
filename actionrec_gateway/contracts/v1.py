"""KServe's first protocol: ``/v1/models/<model>`` and ``/v1/models/<model>:predict``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ..engine import Engine
from ..health import not_ready
from . import instances
from .calls import Call
from .reading import parse_json, takes, whole_body


class Models(BaseModel):
    """Names of what is served."""

    models: list[str]


class ModelReady(BaseModel):
    """A model that predicts."""

    name: str
    ready: bool


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["KServe v1 and Vertex AI"], prefix="/v1/models")

    @routes.get("")
    async def list_models(request: Request) -> Models:
        """Names of what is served."""
        engine: Engine = request.app.state.engine
        return Models(models=await engine.models())

    @routes.get("/{model}")
    async def model_ready(request: Request, model: str) -> ModelReady:
        """Whether a model answers a real prediction, or answered one in the last seconds."""
        call = Call.of(request, model)
        await call.engine.describe(model)
        if not await call.engine.ready(model):
            raise not_ready()
        return ModelReady(name=model, ready=True)

    @routes.post(
        "/{model}:predict",
        response_model=instances.Predictions,
        openapi_extra=takes(instances.Instances),
    )
    async def predict(request: Request, model: str) -> JSONResponse:
        """Classify several videos. Where none has an answer, the request gets the first one's error."""
        call = Call.of(request, model)
        async with whole_body(request) as body:
            return JSONResponse(await instances.answer(call, parse_json(body, instances.HINT)))

    return routes
