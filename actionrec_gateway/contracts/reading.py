"""Bodies of the contracts: read within bounds, JSON taken apart, and what the OpenAPI document says of them.

The first bytes decide what a body is, and not its Content-Type, as in `actionrec.body`: ``curl -d`` calls JSON
a form, and many clients send a file with a wrong type.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS
from actionrec.refusals import refuse
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from ..bodies import OPAQUE
from ..errors import JSON

MOST_BYTES = DEFAULT_LIMITS.body_bytes * 4 // 3 + (1 << 20)
"""Bytes of a body that is read as a whole: the largest video in base64, and a megabyte around it."""
MOST_INSTANCES = 64
"""Videos of one request."""
_MOST_VALUES = 64 * MOST_INSTANCES
"""Brackets and commas in a body's JSON: 100 MB of ``[],[],`` would become 2 GB of lists."""

_OBJECT = re.compile(rb"[ \t\r\n]{0,100}\{")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""A character of which two make one: JSON can have one alone, and UTF-8 cannot."""
_MEDIA = re.compile(r"data:[\w.+/;=-]{0,100};base64,")

Model = TypeVar("Model", bound=BaseModel)


class Room:
    """Memory for what is held at the same time; what finds none is told to come again.

    Args:
        most_bytes: of all bodies together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._held = most_bytes, 0

    def take(self, count: int) -> None:
        """Hold so many bytes more.

        Raises:
            ClipError: 503, there is no room.
        """
        if self._held + count > self._most_bytes:
            raise refuse("UNAVAILABLE")
        self._held += count

    def give_back(self, count: int) -> None:
        """Hold so many bytes less."""
        self._held -= count


ROOM = Room(4 * MOST_BYTES)
"""For the bodies of all requests. JSON takes up to five times its length until its videos are on their way."""


@asynccontextmanager
async def whole_body(request: Request) -> AsyncIterator[bytes]:
    """The whole body of a request, which is held while the context is open.

    Raises:
        ClipError: 413, it is over `MOST_BYTES`; 415, it is compressed; 503, others' bodies take all room.
    """
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise ClipError(
            "UNSUPPORTED_CONTENT_ENCODING",
            415,
            f"The body has the Content-Encoding {encoding[:40]!a}.",
            "Send it as it is: videos are compressed already.",
        )
    parts, count = [], 0
    try:
        async for chunk in request.stream():
            if count + len(chunk) > MOST_BYTES:
                raise refuse("BODY_TOO_LARGE", max_body_bytes=MOST_BYTES)
            ROOM.take(len(chunk))
            count += len(chunk)
            parts.append(chunk)
        yield b"".join(parts)
    except ClientDisconnect as error:
        raise refuse("BAD_REQUEST") from error  # for the log: nobody is there to read it
    finally:
        ROOM.give_back(count)


def begins_as_object(body: bytes) -> bool:
    """Whether a body, or its beginning, is that of a JSON object. No video begins with ``{``."""
    return _OBJECT.match(body) is not None


def parse_json(body: bytes, hint: str) -> dict[str, Any]:
    """The JSON object in a body.

    Args:
        body: as it was read.
        hint: what to send in its place.

    Raises:
        ClipError: 400, it is none, or has more values than a request.
    """
    if sum(body.count(mark) for mark in (b"{", b"[", b",")) > _MOST_VALUES:
        raise ClipError("BAD_BODY", 400, f"The JSON has more than {_MOST_VALUES} values.", hint)
    try:
        value = json.loads(body)
        if _HALF.search(body):
            json.dumps(value, ensure_ascii=False).encode()  # what is no text cannot be answered with either
    except (ValueError, RecursionError) as error:
        raise ClipError("BAD_BODY", 400, f"The body is not JSON: {_brief(error)}.", hint) from error
    if not isinstance(value, dict):
        raise ClipError("BAD_BODY", 400, f"The body is JSON, but no object: {body[:40]!a}.", hint)
    return value


def checked(kind: type[Model], value: object, hint: str) -> Model:
    """A value as one of the contracts' models.

    Raises:
        ClipError: 400, it is none; the message has the first thing that is wrong.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:100] or "the body"
        raise ClipError("BAD_BODY", 400, f"{where}: {first['msg']}."[:300], hint) from error


def from_base64(text: str, name: str) -> bytes:
    """A file in base64, with or without ``data:video/mp4;base64,`` in front.

    Args:
        text: what was sent.
        name: its name in messages.

    Raises:
        ClipError: 400, it is not base64.
    """
    if text.startswith("data:") and (found := _MEDIA.match(text)):
        text = text[found.end() :]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ClipError(
            "BAD_BASE64", 400, f"{name} is not base64: {_brief(error)}.", "Encode it: base64 -w0 clip.mp4"
        ) from error


def takes(kind: type[BaseModel] | None = None, *, file: bool = False) -> dict[str, Any]:
    """What a route that reads its body by itself says of it in the OpenAPI document (``openapi_extra``).

    Args:
        kind: the JSON that it takes.
        file: whether it takes a file's bytes too.
    """
    content: dict[str, Any] = {}
    if kind:
        content[JSON] = {"schema": _whole(kind)}
    if file:
        content[OPAQUE] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}


def _whole(kind: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON schema without references, which would point outside of it."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})

    def inlined(value: object) -> object:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(parts[value["$ref"].rsplit("/", 1)[1]])
            return {name: inlined(each) for name, each in value.items()}
        return [inlined(each) for each in value] if isinstance(value, list) else value

    return cast("dict[str, Any]", inlined(schema))


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:100] if str(error) else type(error).__name__
