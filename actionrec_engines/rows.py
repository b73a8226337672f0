"""An engine of the gateway that is no address: requests become rows, and rows go to models by a call.

What a model does with a row (a call in this process, a handle of Ray Serve) is the engine's own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any, NoReturn, Protocol

from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS
from actionrec.refusals import refuse
from actionrec.service import JSON, Reply, Row

from actionrec_gateway.bodies import form
from actionrec_gateway.engine import Answer, Stream
from actionrec_gateway.errors import error_answer
from actionrec_gateway.observe import metrics
from actionrec_gateway.watch import Watch

BODY_BYTES = DEFAULT_LIMITS.body_bytes
"""Largest body of a request, as in TorchServe's ``max_request_size``."""

_PATH = re.compile(r"/(?P<what>predictions|explanations)/(?P<model>[^/]+)(?:/(?P<version>[^/]+))?")


class Model(Protocol):
    """What answers the rows of one model."""

    async def answer(self, row: Row) -> Reply:
        """The reply to a row.

        Raises:
            ClipError: 503, too many wait or nothing answers; 504, it takes too long.
        """

    async def describe(self) -> dict[str, Any]:
        """What the archive says of itself.

        Raises:
            ClipError: 503, nothing answers.
        """

    @property
    def waiting(self) -> int | None:
        """Rows that wait for their turn; None: nobody knows."""


class RowEngine:
    """An `actionrec_gateway.engine.Engine` over models that take rows.

    Args:
        models: by their names.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models
        self._versions: dict[str, str] = {}
        self._watch = Watch(self.predict)

    async def forward(self, path: str, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Stream:
        """See `Engine.forward`. The body is kept: a row is a whole one."""
        found = _PATH.fullmatch(path)
        if found is None:
            raise refuse("NOT_FOUND")
        model = await self._model(found["model"], found["version"])
        row = Row(
            {"body": b"".join([chunk async for chunk in body])},
            headers.get("x-actionrec-client", ""),
            headers.get("x-request-id", ""),
            explain=found["what"] == "explanations",
        )
        reply = await model.answer(row)
        if reply.status < 300:
            self._watch.answered(found["model"])
        timings = reply.timings.to_dict() if reply.timings else {}
        metrics.stages(timings)
        raw = tuple((name.encode("ascii"), value.encode("ascii")) for name, value in _headers(reply).items())
        length = (b"content-length", str(len(reply.body)).encode("ascii"))
        return Stream(reply.status, (*raw, length), _once(reply.body), timings, row.request_id)

    async def predict(
        self,
        model: str,
        video: bytes,
        options: Mapping[str, Any],
        *,
        request_id: str,
        version: str | None = None,
        client: str = "",
    ) -> Answer:
        """See `Engine.predict`."""
        try:
            body = form(video, options, secrets.token_hex(16))
            with metrics.IN_FLIGHT.track_inprogress():
                reply = await (await self._model(model, version)).answer(
                    Row({"body": body}, client, request_id)
                )
        except ClipError as error:
            return error_answer(error, request_id)
        return Answer(reply.status, reply.body, _headers(reply))

    async def models(self) -> list[str]:
        """See `Engine.models`."""
        return sorted(self._models)

    async def describe(self, model: str, version: str | None = None) -> dict[str, Any]:
        """See `Engine.describe`."""
        return await (await self._model(model, version)).describe()

    async def ready(self, model: str | None = None) -> bool:
        """See `Engine.ready`."""
        names = [model] if model else list(self._models)
        return bool(names) and all([await self._watch.predicts(name) for name in names])

    async def waiting(self) -> dict[str, int]:
        """See `Engine.waiting`."""
        counts = {name: model.waiting for name, model in self._models.items()}
        return {name: count for name, count in counts.items() if count is not None}

    async def workers(self) -> NoReturn:
        """See `Engine.workers`: what runs this engine knows.

        Raises:
            ClipError: 503.
        """
        raise refuse("UNAVAILABLE")

    async def manage(self, method: str, path: str, query: Mapping[str, str]) -> Answer:  # noqa: ARG002
        """See `Engine.manage`: this engine is managed by what runs it.

        Raises:
            ClipError: 404.
        """
        raise refuse("NOT_FOUND")

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._watch.close()

    async def _model(self, name: str, version: str | None) -> Model:
        """The model of a request.

        Raises:
            ClipError: 404, there is none of this name and version.
        """
        model = self._models.get(name)
        if model is None:
            raise refuse("MODEL_NOT_FOUND")
        if version is not None:
            if name not in self._versions:
                self._versions[name] = str((await model.describe())["version"])
            if version != self._versions[name]:
                raise refuse("MODEL_NOT_FOUND")
        return model


def _headers(reply: Reply) -> dict[str, str]:
    headers = {"content-type": JSON}
    if reply.retry_after_seconds:
        headers["retry-after"] = str(reply.retry_after_seconds)
    return headers


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
