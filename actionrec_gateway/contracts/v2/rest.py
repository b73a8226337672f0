"""The Open Inference Protocol over REST: ``/v2``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ...bodies import OPAQUE
from ...errors import JSON
from ..calls import Call
from ..reading import takes, whole_body
from ..texts import TEXT_ERRORS, TextErrors
from . import served
from .loading import codec
from .schemas import InferReply, InferRequest, Live, ModelMetadata, ModelReady, Models, Ready, ServerMetadata

_LENGTH = "Inference-Header-Content-Length"


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"], route_class=TextErrors)

    @routes.get("")
    async def server_metadata() -> ServerMetadata:
        """What answers."""
        return served.server()

    @routes.get("/health/live")
    async def live() -> Live:
        """Whether the gateway lives, whatever the engine does."""
        return Live(live=True)

    @routes.get("/health/ready", responses={503: {"model": Ready}}, response_model=Ready)
    async def ready(request: Request) -> JSONResponse:
        """Whether every model answers a real prediction, or answered one in the last seconds."""
        found = await request.app.state.engine.ready()
        return JSONResponse({"ready": found}, 200 if found else 503)

    @routes.get("/models", responses=TEXT_ERRORS)
    async def models(request: Request) -> Models:
        """Names of what is served."""
        return Models(models=await request.app.state.engine.models())

    async def model_metadata(request: Request, model: str, version: str | None = None) -> ModelMetadata:
        """A model's tensors."""
        return await served.model(Call.of(request, model, version))

    async def model_ready(request: Request, model: str, version: str | None = None) -> JSONResponse:
        """Whether a model answers a real prediction, or answered one in the last seconds."""
        found = await served.ready(Call.of(request, model, version))
        return JSONResponse({"name": model, "ready": found}, 200 if found else 503)

    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        """Classify several videos. Where none has an answer, the request gets the first one's error."""
        call = Call.of(request, model, version)
        kserve = await codec()
        async with whole_body(request) as body:
            asked = kserve.from_rest(body, request.headers.get(_LENGTH), model)
            reply, json_length = kserve.to_rest(await kserve.answer(call, asked))
        if json_length is None:
            return Response(reply, media_type=JSON)
        return Response(reply, headers={_LENGTH: str(json_length)}, media_type=OPAQUE)

    for path in ("/models/{model}", "/models/{model}/versions/{version}"):
        routes.add_api_route(path, model_metadata, methods=["GET"], responses=TEXT_ERRORS)
        routes.add_api_route(
            f"{path}/ready",
            model_ready,
            methods=["GET"],
            response_model=ModelReady,
            responses={503: {"model": ModelReady}, **TEXT_ERRORS},
        )
        routes.add_api_route(
            f"{path}/infer",
            infer,
            methods=["POST"],
            response_model=InferReply,
            responses={200: {"content": {OPAQUE: {}}}, **TEXT_ERRORS},
            openapi_extra=takes(InferRequest, file=True),
        )
    return routes
