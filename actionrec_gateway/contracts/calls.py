"""One call of a contract: which model, who asks, and the videos, each with an answer or an error of its own."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actionrec.errors import ClipError, internal
from actionrec.refusals import refuse
from actionrec.request import VIDEO_FIELDS, unknown_option
from fastapi import Request, Response

from ..engine import Answer, Engine
from ..fetch import fetch
from ..observe import record_of
from ..settings import Settings
from .reading import MOST_INSTANCES

_AT_ONCE = 8
"""Videos of one request that the engine has at the same time: more would take the turns of others."""
_OPTION = re.compile(r"[a-z_]{1,40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Instance:
    """One video of a request."""

    video: bytes | str
    """A whole file, or the address of one: that is fetched when its turn comes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of a request to `/predictions`, by their names."""


Reply = dict[str, Any] | ClipError
"""What one video got: the reply's JSON object, or an error of its own."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks what.

    Raises:
        ClipError: 404, no model can have that name or version.
    """

    engine: Engine
    settings: Settings
    model: str
    request_id: str
    client: str = ""
    version: str | None = None

    def __post_init__(self) -> None:
        # They become part of an address; an escaped slash or question mark would make it another one.
        if not _NAME.fullmatch(self.model) or (self.version and not _NAME.fullmatch(self.version)):
            raise refuse("MODEL_NOT_FOUND")

    @classmethod
    def of(cls, request: Request, model: str, version: str | None = None) -> Call:
        """The call of an HTTP request.

        Raises:
            ClipError: 404, no model can have that name or version.
        """
        ours, state = request.app.state, request.state
        call = cls(ours.engine, ours.settings, model, state.request_id, state.client, version)
        record_of(request.scope).model = call.model  # which has a proper name
        return call

    async def ask(self, instance: Instance, number: int | None = None) -> Answer:
        """Classify one video.

        Args:
            instance: the video.
            number: its place among several, for its id.

        Raises:
            ClipError: an option has a name that none has; the video cannot be fetched.
        """
        for name in instance.options:
            # Names become part of a form, where a line's end would be more than a name.
            if not _OPTION.fullmatch(name) or name in VIDEO_FIELDS:
                raise unknown_option(name)
        video = instance.video
        return await self.engine.predict(
            self.model,
            await fetch(video, self.settings) if isinstance(video, str) else video,
            instance.options,
            request_id=self.request_id if number is None else f"{self.request_id}-{number}",
            version=self.version,
            client=self.client,
        )

    async def ask_all(self, instances: Sequence[Instance | ClipError]) -> list[Reply]:
        """Classify several videos; one that fails costs no other its answer.

        Args:
            instances: the videos, and the errors of those that could not be read.

        Returns:
            A reply for each, in the same order; at least one is no error.

        Raises:
            ClipError: there are none, or too many; or no video has an answer: the first one's error.
        """
        if not instances:
            raise ClipError("NO_VIDEO", 400, "The request has no video.", "Send at least one.")
        if len(instances) > MOST_INSTANCES:
            raise ClipError(
                "TOO_MANY_INSTANCES",
                400,
                f"The request has {len(instances)} videos; {MOST_INSTANCES} are allowed.",
                "Send several requests.",
            )
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int, instance: Instance | ClipError) -> Reply:
            if isinstance(instance, ClipError):
                return instance
            try:
                async with turns:
                    return reply_in(await self.ask(instance, number if len(instances) > 1 else None))
            except ClipError as error:
                return error

        replies = await asyncio.gather(*(one(number, each) for number, each in enumerate(instances)))
        if isinstance(replies[0], ClipError) and all(isinstance(each, ClipError) for each in replies):
            raise replies[0]
        return replies


def reply_in(answer: Answer) -> Reply:
    """The JSON object in an answer, or the error that it is."""
    try:
        value = json.loads(answer.body)
        if answer.status < 300:
            return dict(value)
        error = value["error"]
        return ClipError(str(error["code"]), answer.status, str(error["message"]), str(error["hint"]))
    except (ValueError, TypeError, KeyError):
        return internal(f"The engine answered {answer.status} with what is no reply.")


def passed_on(answer: Answer) -> Response:
    """An answer of the engine as the answer to a request, with the same bytes."""
    kept = {name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers}
    return Response(answer.body, answer.status, kept)


async def default_model(engine: Engine, settings: Settings) -> str:
    """The model of contracts that name none.

    Raises:
        ClipError: 400, it is not clear which; 503, none is served or the engine does not answer.
    """
    if settings.model:
        return settings.model
    names = await engine.models()
    if len(names) == 1:
        return names[0]
    if not names:
        raise refuse("UNAVAILABLE")
    raise ClipError(
        "WHICH_MODEL",
        400,
        f"This address names no model, and several are served: {', '.join(names[:10])}.",
        "Say which one when the gateway is started: --model NAME.",
    )
