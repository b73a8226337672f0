"""Routes that take any body and name no model: SageMaker's, and those that Vertex AI chooses (``AIP_*``)."""

from __future__ import annotations

from collections.abc import Mapping

from actionrec.body import read_form
from actionrec.errors import ClipError
from actionrec.request import VIDEO_FIELDS
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..bodies import options_of
from ..engine import Engine
from ..health import Ready, not_ready
from ..settings import Settings
from . import instances
from .calls import Call, Instance, default_model, passed_on
from .reading import begins_as_object, parse_json, takes, whole_body
from .schemas import Reply

PING, INVOCATIONS = "/ping", "/invocations"
"""SageMaker's."""
_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
"""Header that SageMaker passes on: the only place for options beside a body that is the file."""


def router(settings: Settings) -> APIRouter:
    """The routes.

    Args:
        settings: with those that Vertex AI wants.
    """
    routes = APIRouter()
    _add(routes, "SageMaker", PING, INVOCATIONS)
    if settings.health_route and settings.predict_route:
        _add(routes, "Vertex AI", settings.health_route, settings.predict_route)
    return routes


def _add(routes: APIRouter, tag: str, health: str, predict: str) -> None:
    """Add a pair of routes."""
    routes.add_api_route(health, _health, methods=["GET"], tags=[tag])
    routes.add_api_route(
        predict,
        _predict,
        methods=["POST"],
        tags=[tag],
        response_model=Reply | instances.Predictions,
        openapi_extra=takes(instances.Instances, file=True),
    )


async def _health(request: Request) -> Ready:
    """Whether every model answers a real prediction, or answered one in the last seconds."""
    engine: Engine = request.app.state.engine
    if not await engine.ready():
        raise not_ready()
    return Ready(models=await engine.models())


async def _predict(request: Request) -> Response:
    """Classify a video (the file, a form, or `{"video": "<base64>"}`), or `{"instances": [...]}`.

    Any body that `/predictions/<model>` takes gets the reply that it gets there.
    """
    engine: Engine = request.app.state.engine
    call = Call.of(request, await default_model(engine, request.app.state.settings))
    options = dict(options_of(request.headers.get(_ATTRIBUTES, "").encode("ascii", "replace")))
    async with whole_body(request) as body:
        if begins_as_object(body):
            value = parse_json(body, instances.HINT)
            if "instances" in value:
                return JSONResponse(await instances.answer(call, value, options))
            return passed_on(await call.ask(instances.one(value, options, "the body")))
        fields = read_form(body)
        return passed_on(
            await call.ask(Instance(body, options) if fields is None else _of_form(fields, options))
        )


def _of_form(fields: Mapping[str, bytes], options: Mapping[str, str]) -> Instance:
    """The video and the options in a form.

    Raises:
        ClipError: 400, it has no video, or two.
    """
    names = [name for name in VIDEO_FIELDS if name in fields]
    if len(names) != 1:
        raise ClipError(
            "TWO_VIDEOS" if names else "NO_VIDEO",
            400,
            f"The form has {' and '.join(names) or 'no field video'}.",
            "Send it as curl does: curl -F video=@clip.mp4 -F top_k=3 URL",
        )
    others = {name: value.decode("utf-8", "replace") for name, value in fields.items() if name != names[0]}
    return Instance(fields[names[0]], {**options, **others})
