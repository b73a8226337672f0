"""`Endpoint` for asyncio, on httpx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, Self, Unpack
from urllib.parse import quote

from .. import endpoint, job_data, management
from ..address import parse
from ..errors import BadReply, NoReply, Refused, ServerError, Unreachable
from ..job_data import JobOptions
from ..management import ANSWER_SECONDS
from ..options import form_of
from ..results import ServedModel
from ..transport import Body, Method
from ..video import Video
from .jobs import AsyncJob, listed
from .transport import AsyncTransport


class AsyncEndpoint:
    """A served model; see `Endpoint`. Use it in ``async with``, or close it.

    Args:
        url, model, token, timeout, attempt_timeout, management_url, insecure_token: as of `ActionClient`.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        token: str | None = None,
        timeout: float | None = None,
        attempt_timeout: float | None = None,
        management_url: str | None = None,
        insecure_token: bool = False,
    ) -> None:
        place = parse(url, management_url)
        self._inference, self._management = place.inference, place.management
        self._model = model or place.model
        self._timeout = timeout
        limit = endpoint.TIMEOUT_SECONDS if timeout is None else timeout
        self._transport = AsyncTransport(token, limit, attempt_timeout, insecure_token=insecure_token)
        self._transport.bearer.check(place.inference)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    @property
    def model(self) -> Coroutine[Any, Any, str]:
        """Name of the model, to be awaited; asks the server where it was not given.

        Raises:
            Refused: ``WHICH_MODEL``: there are several, or none.
            ServerError: the management address does not answer.
        """
        return self._named()

    async def _named(self) -> str:
        if self._model is None:
            self._model = endpoint.only_model(await self.models())
        return self._model

    @property
    def url(self) -> Coroutine[Any, Any, str]:
        """Where clips are sent, to be awaited."""
        return self._sent_to()

    async def _sent_to(self) -> str:
        return f"{self._inference}/predictions/{quote(await self.model, safe='')}"

    async def post(
        self, data: bytes, options: Mapping[str, Any], timeout: float | None = None
    ) -> dict[str, Any]:
        """See `Endpoint.post`.

        Raises:
            ServerError: there is no answer, and why.
        """
        limit = timeout or self._timeout or endpoint.deadline(options)
        reply = await self._transport.call("POST", await self.url, Body(form_of(options), data), limit)
        return endpoint.prediction(reply)

    async def submit(
        self,
        clip: Video | None = None,
        *,
        url: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncJob:
        """See `Endpoint.submit`.

        Raises:
            ServerError: there is no job, and why.
            ValueError: a clip and an address are given, or neither.
        """
        sent = await asyncio.to_thread(job_data.submission, clip, url, self._model, options, idempotency_key)
        address = self._inference + sent.path
        limit = timeout or job_data.UPLOAD_SECONDS
        found = await self._transport.call("POST", address, sent.body, limit, own_error=False)
        return AsyncJob(self._transport, self._inference, job_data.JobState.from_dict(found))

    async def job(self, job_id: str) -> AsyncJob:
        """See `Endpoint.job`.

        Raises:
            ServerError: there is no such job.
        """
        address = self._inference + job_data.job_path(job_id)
        found = await self._transport.call("GET", address, own_error=False)
        return AsyncJob(self._transport, self._inference, job_data.JobState.from_dict(found))

    def jobs(self, state: job_data.State | None = None) -> AsyncIterator[AsyncJob]:
        """See `Endpoint.jobs`.

        Raises:
            ServerError: there is no list.
        """
        return listed(self._transport, self._inference, state)

    async def has_jobs(self) -> bool:
        """See `Endpoint.has_jobs`.

        Raises:
            ServerError: it does not answer.
        """
        try:
            reply = await self._transport.once("GET", f"{self._inference}/jobs?limit=1", own_error=False)
            job_data.views(reply)
        except (BadReply, Refused):
            return False
        return True

    @property
    def knows_model(self) -> bool:
        """See `Endpoint.knows_model`."""
        return self._model is not None

    async def models(self) -> list[ServedModel]:
        """See `Endpoint.models`.

        Raises:
            ServerError: the management address does not answer.
        """
        listed_models = await self._ask("GET", "models?limit=1000")
        return [await self._one(str(entry["modelName"])) for entry in listed_models["models"]]

    async def describe(self) -> dict[str, Any]:
        """See `Endpoint.describe`.

        Raises:
            ServerError: the management address does not answer, or the model is not there.
        """
        name = await self.model
        reply = await self._ask("GET", f"models/{quote(name, safe='')}?customized=true")
        return management.description(name, reply)

    async def ready(self) -> bool:
        """See `Endpoint.ready`.

        Raises:
            ServerError: the server does not answer, or the model is not there.
        """
        return (await self._one(await self.model)).ready

    async def reach(self, timeout: float = ANSWER_SECONDS) -> None:
        """See `Endpoint.reach`.

        Raises:
            Unreachable, NoReply: nothing answers.
        """
        try:
            await self._transport.once("GET", f"{self._inference}/ping", timeout_seconds=timeout)
        except (Unreachable, NoReply):
            raise
        except ServerError:
            return

    async def scale(self, workers: int, *, timeout: float | None = None) -> None:
        """See `Endpoint.scale`.

        Raises:
            ServerError: the server refuses, does not answer, or is not done in time.
        """
        name, limit = await self.model, timeout or self._transport.timeout_seconds
        until = time.monotonic() + limit
        path = f"models/{quote(name, safe='')}?min_worker={workers}&max_worker={workers}&synchronous=true"
        await self._ask("PUT", path, limit)
        while not management.is_scaled(await self._one(name), workers, limit, time.monotonic() > until):
            await asyncio.sleep(management.POLL_SECONDS)

    async def _one(self, name: str) -> ServedModel:
        return management.served(await self._ask("GET", f"models/{quote(name, safe='')}"))

    async def _ask(self, method: Method, path: str, timeout_seconds: float = ANSWER_SECONDS) -> Any:  # noqa: ANN401
        url = management.address_of(self._management, self._inference, path)
        try:
            return await self._transport.once(method, url, timeout_seconds=timeout_seconds)
        except Unreachable as error:
            raise management.closed(error) from error
