"""Hugging Face's ``video-classification``: ``POST /`` and ``POST /models/<model>``.

{"inputs": "<base64, or an address>", "parameters": {"top_k": 3}}  or the file itself
-> [{"label": "...", "score": 0.9}, ...]
"""

from __future__ import annotations

from typing import Any, Literal

from actionrec.errors import ClipError
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from .calls import Call, Instance, default_model, reply_in
from .reading import begins_as_object, checked, from_base64, parse_json, takes, whole_body
from .texts import TEXT_ERRORS, TextErrors

_HINT = 'Send {"inputs": "<base64 of the file>", "parameters": {"top_k": 3}}, or the file itself.'


class Parameters(BaseModel):
    """Those of the task. Others are options of a request to `/predictions`."""

    model_config = ConfigDict(extra="allow")

    top_k: int | None = Field(None, ge=1, description="How many labels; more than the model has are all.")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="The models give probabilities by softmax; others are refused."
    )
    num_frames: int | None = Field(None, description="The archive fixes them; others are refused.")
    frame_sampling_rate: int | None = Field(None, description="The archive fixes it; others are refused.")


class Inputs(BaseModel):
    """One video."""

    inputs: str = Field(description="The file in base64, or its address where this server may fetch from it.")
    parameters: Parameters | None = None


class Label(BaseModel):
    """One label."""

    label: str
    score: float = Field(description="A probability.")


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["Hugging Face"], route_class=TextErrors)
    more: dict[str, Any] = {
        "responses": TEXT_ERRORS,
        "openapi_extra": takes(Inputs, file=True),
        "response_model": list[Label],
    }

    @routes.post("/", **more)
    async def classify(request: Request) -> JSONResponse:
        """Classify a video with the model that is served."""
        ours = request.app.state
        return await _answer(request, await default_model(ours.engine, ours.settings))

    @routes.post("/models/{model}", **more)
    async def classify_with(request: Request, model: str) -> JSONResponse:
        """Classify a video with one of the models."""
        return await _answer(request, model)

    return routes


async def _answer(request: Request, model: str) -> JSONResponse:
    call = Call.of(request, model)
    async with whole_body(request) as body:
        instance = await _read(call, body) if begins_as_object(body) else Instance(body)
        reply = reply_in(await call.ask(instance))
    if isinstance(reply, ClipError):
        raise reply
    return JSONResponse([{"label": each["label"], "score": each["score"]} for each in reply["predictions"]])


async def _read(call: Call, body: bytes) -> Instance:
    asked = checked(Inputs, parse_json(body, _HINT), _HINT)
    options = await _options(call, asked.parameters) if asked.parameters else {}
    video = asked.inputs if "://" in asked.inputs[:16] else from_base64(asked.inputs, "inputs")
    return Instance(video, options)


async def _options(call: Call, asked: Parameters) -> dict[str, Any]:
    """Options of a request from the task's parameters.

    Raises:
        ClipError: 400, they ask for what an archive has otherwise.
    """
    if asked.function_to_apply not in (None, "softmax"):
        raise ClipError(
            "BAD_OPTION",
            400,
            f"function_to_apply is {asked.function_to_apply}, and the model's scores are those of softmax.",
            "Leave it out.",
        )
    options = dict(asked.model_extra or {})
    if asked.model_fields_set & {"top_k", "num_frames", "frame_sampling_rate"}:
        said = await call.engine.describe(call.model)
        _check_recipe(asked, said["spec"])
        if asked.top_k is not None:
            # As the pipeline of the `transformers` library has it; `/predictions` refuses more than there are.
            options["top_k"] = min(asked.top_k, said["labels"], said["limits"]["top_k"])
    return options


def _check_recipe(asked: Parameters, spec: dict[str, Any]) -> None:
    """Refuse other frames than those that the model eats: it was trained on them.

    Raises:
        ClipError: 400
    """
    for name, own in (("num_frames", "num_frames"), ("frame_sampling_rate", "sampling_rate")):
        wanted = getattr(asked, name)
        if wanted is not None and wanted != spec[own]:
            raise ClipError(
                "BAD_OPTION", 400, f"{name} is {wanted}, and the model takes {spec[own]}.", "Leave it out."
            )
