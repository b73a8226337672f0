"""``{"instances": [...]}``, as KServe v1, Vertex AI and TensorFlow Serving have it.

    {"instances": [{"video": "<base64>", "top_k": 3}, {"b64": "..."}, "<base64>"], "parameters": {"views": 3}}
    ->
    {"predictions": [{"predictions": [...], "clip": ...}, {"error": {...}}, ...]}

Options of an instance stand beside its video; `parameters` hold for the instances that do not say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from actionrec.errors import ClipError
from actionrec.request import VIDEO_FIELDS
from pydantic import BaseModel, Field, SkipValidation

from .calls import Call, Instance
from .reading import checked, from_base64
from .schemas import Failed, Options, Reply

HINT = 'Send {"instances": [{"video": "<base64 of the file>", "top_k": 3}]}.'
_FIELDS = (*VIDEO_FIELDS, "b64", "url")


class Encoded(BaseModel):
    """Bytes in base64, as TensorFlow Serving writes them."""

    b64: str


class OneVideo(Options):
    """One video: `video`, `b64` or `url`, and options."""

    video: str | Encoded | None = Field(None, description="The file in base64.")
    b64: str | None = Field(None, description="The same.")
    url: str | None = Field(None, description="Its address, where this server may fetch from it.")


class Instances(BaseModel):
    """Several videos, each answered by itself."""

    # What an instance holds is looked at later: a wrong one must not cost the others their answers.
    instances: list[SkipValidation[OneVideo | str]] = Field(description="Videos; text is a file in base64.")
    parameters: SkipValidation[Options | None] = Field(None, description="Options of all instances.")


class Predictions(BaseModel):
    """A reply for each instance, in the same order; `error` where there is none."""

    predictions: list[Reply | Failed]


async def answer(
    call: Call, body: Mapping[str, Any], options: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The reply to a body of instances.

    Args:
        call: who asks.
        body: the JSON object.
        options: of all instances, unless the body has others.

    Raises:
        ClipError: it is none; or no instance has an answer.
    """
    asked = checked(Instances, body, HINT)
    parameters: Any = asked.parameters or {}
    if not isinstance(parameters, dict):
        raise ClipError("BAD_BODY", 400, "parameters is no JSON object.", HINT)
    replies = await call.ask_all(_read(asked.instances, {**options, **parameters}))
    return {
        "predictions": [{"error": each.to_dict()} if isinstance(each, ClipError) else each for each in replies]
    }


def _read(instances: Sequence[Any], parameters: Mapping[str, Any]) -> list[Instance | ClipError]:
    """What was sent for each video, or what is wrong with it."""
    found: list[Instance | ClipError] = []
    for number, each in enumerate(instances):
        try:
            found.append(one(each, parameters, f"instances.{number}"))
        except ClipError as error:
            found.append(error)
    return found


def one(value: object, parameters: Mapping[str, Any], name: str) -> Instance:
    """One instance.

    Args:
        value: what was sent for it.
        parameters: options, unless it has others itself.
        name: its name in messages.

    Raises:
        ClipError: 400
    """
    if isinstance(value, str):
        value = {"video": value}
    if not isinstance(value, dict):
        raise ClipError("NO_VIDEO", 400, f"{name} is neither text nor a JSON object.", HINT)
    names = [each for each in _FIELDS if each in value]
    if len(names) != 1:
        what = "no video" if not names else " and ".join(names)
        raise ClipError("TWO_VIDEOS" if names else "NO_VIDEO", 400, f"{name} has {what}.", HINT)
    sent = value[names[0]]
    if isinstance(sent, dict) and set(sent) == {"b64"}:
        sent = sent["b64"]
    if not isinstance(sent, str):
        raise ClipError("BAD_BASE64", 400, f"{name}.{names[0]} is no text.", "Send the file in base64.")
    options = {**parameters, **{key: each for key, each in value.items() if key != names[0]}}
    return Instance(sent if names[0] == "url" else from_base64(sent, f"{name}.{names[0]}"), options)
