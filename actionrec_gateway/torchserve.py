"""An engine at TorchServe's address."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
from actionrec.errors import ClipError
from actionrec.refusals import refuse

from .bodies import OPAQUE, form
from .engine import Answer, Stream, Worker, Workers
from .errors import JSON, error_answer
from .observe import content, metrics, traces
from .settings import MODEL, VERSION, Settings
from .watch import Watch

logger = logging.getLogger(__name__)
T = TypeVar("T")

_CONNECT_SECONDS = 2.0
_MANAGEMENT_SECONDS = 5.0
_OWN = "x-actionrec"
"""Header of each reply of the project's handler, which tells it from TorchServe's own."""
_PASSED_ON = frozenset({"content-type", "content-length", "retry-after"})
_TIMINGS = re.compile(rb'"timings_ms": ?\{([a-z_":0-9., ]{0,200})\}')
_TIMING = re.compile(rb'"([a-z_]{1,20})": ?([0-9]+(?:\.[0-9]+)?)')
_END_BYTES = 8192
"""In so many last bytes of a reply its times stand: what follows them are its warnings."""
_CODES = {
    400: "BAD_REQUEST",
    404: "MODEL_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "BODY_TOO_LARGE",
    504: "UPSTREAM_TIMEOUT",
}
"""TorchServe's own status -> code. All others mean that it cannot answer now: a full queue, a dead worker."""


class TorchServe:
    """TorchServe behind its HTTP addresses. Make it inside a running event loop.

    Args:
        settings: the addresses and limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._patience = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=settings.answer_seconds
        )
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("user-agent", "accept", "accept-encoding"),
        )
        self._watch = Watch(self.predict)

    async def forward(self, path: str, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Stream:
        """See `Engine.forward`."""
        asked = traces.Asked()
        sent = {**headers, **asked.headers(), "content-type": OPAQUE}
        try:
            reply = await self._ask(self._settings.engine + path, _until_sent(body, asked), sent)
        finally:
            asked.answered()
        if reply.status < 300:
            self._watch.answered(path.split("/")[2])
            timings: dict[str, float] = {}
            return Stream(reply.status, _kept(reply), _chunks(reply, timings, asked), timings, _id(reply))
        refused = await self._refusal(reply, headers.get("x-request-id", ""))
        sent_on = {**refused.headers, "content-length": str(len(refused.body))}
        raw = tuple((name.lower().encode("ascii"), value.encode("ascii")) for name, value in sent_on.items())
        return Stream(refused.status, raw, _once(refused.body), engine_id=_id(reply))

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
        headers = {"x-request-id": request_id}
        if client:
            headers["x-actionrec-client"] = client
        try:
            path = _path("predictions", model, version)
            body = form(video, options, secrets.token_hex(16))
            headers["content-length"] = str(len(body))
            with metrics.IN_FLIGHT.track_inprogress():
                stream = await self.forward(path, _once(body), headers)
                reply = b"".join([chunk async for chunk in stream.body])
        except ClipError as error:
            return error_answer(error, request_id)
        return Answer(stream.status, reply, _without_length(stream.headers))

    async def models(self) -> list[str]:
        """See `Engine.models`."""
        names: list[str] = []
        query = ""
        while True:
            page = await self._management(f"/models?limit=1000{query}")
            names += [str(entry["modelName"]) for entry in page["models"]]
            if not page.get("nextPageToken"):
                return sorted(names)
            query = f"&next_page_token={page['nextPageToken']}"

    async def describe(self, model: str, version: str | None = None) -> dict[str, Any]:
        """See `Engine.describe`."""
        path = _path("models", model, version)
        entry = (await self._management(f"{path}?customized=true"))[0]
        described = entry.get("customizedMetadata", "")
        return dict(json.loads(described)) if isinstance(described, str) else dict(described)

    async def ready(self, model: str | None = None) -> bool:
        """See `Engine.ready`."""
        try:
            names = [model] if model else await self.models()
            return bool(names) and all(await asyncio.gather(*(self._watch.predicts(name) for name in names)))
        except ClipError:
            return False

    async def waiting(self) -> dict[str, int]:
        """See `Engine.waiting`."""
        return await self._of_each_model(
            lambda entries: sum(int(entry["jobQueueStatus"]["pendingRequests"]) for entry in entries)
        )

    async def workers(self) -> dict[str, Workers]:
        """See `Engine.workers`."""
        return await self._of_each_model(
            lambda entries: Workers(
                sum(int(entry["minWorkers"]) for entry in entries),
                tuple(_worker(worker) for entry in entries for worker in entry["workers"]),
            )
        )

    async def manage(self, method: str, path: str, query: Mapping[str, str]) -> Answer:
        """See `Engine.manage`. A call to scale may take as long as a model loads."""
        url = f"{self._settings.management}{path}?{urlencode(query)}"
        try:
            async with await self._ask(url, method=method) as reply:
                kept = {"content-type": reply.headers.get("content-type", JSON)}
                return Answer(reply.status, await reply.read(), kept)
        except aiohttp.ClientError as error:
            raise refuse("UNAVAILABLE") from error

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._watch.close()
        await self._http.close()

    async def _ask(
        self,
        url: str,
        body: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
        method: str = "GET",
    ) -> aiohttp.ClientResponse:
        """Send a request. One with a body is always a POST.

        Raises:
            ClipError: 503 or 504, there is no answer.
        """
        try:
            return await self._http.request(
                method if body is None else "POST",
                url,
                data=body,
                headers=headers,
                timeout=timeout or self._patience,
                allow_redirects=False,
            )
        except aiohttp.SocketTimeoutError as error:
            raise refuse("UPSTREAM_TIMEOUT") from error
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, OSError | None):  # and not what broke the body off
                logger.warning("The engine does not answer: %s", error)
            raise refuse("UNAVAILABLE") from error

    async def _of_each_model(self, read: Callable[[Sequence[Any]], T]) -> dict[str, T]:
        """What is read from the entries that the management API has for a model, one for each version.

        Raises:
            ClipError: as `_management`; 503, an entry is not as TorchServe's are.
        """
        names = await self.models()
        found = await asyncio.gather(*(self._management(f"/models/{name}") for name in names))
        try:
            return {name: read(entries) for name, entries in zip(names, found, strict=True)}
        except (LookupError, TypeError, ValueError) as error:
            raise refuse("UNAVAILABLE") from error

    async def _management(self, path: str) -> Any:  # noqa: ANN401  # JSON
        """The JSON that the management API answers.

        Raises:
            ClipError: 404, there is no such model; 503, it does not answer.
        """
        timeout = aiohttp.ClientTimeout(total=_MANAGEMENT_SECONDS)
        try:
            async with await self._ask(self._settings.management + path, timeout=timeout) as reply:
                if reply.status == 200:
                    return json.loads(await reply.read())
        except (TimeoutError, json.JSONDecodeError, aiohttp.ClientError) as error:
            raise refuse("UNAVAILABLE") from error
        raise refuse("MODEL_NOT_FOUND" if reply.status == 404 else "UNAVAILABLE")

    async def _refusal(self, reply: aiohttp.ClientResponse, request_id: str) -> Answer:
        """A refusal of TorchServe or of the handler, in the project's form and with the request's own id."""
        async with reply:
            body = await reply.read() if _OWN in reply.headers else b""
        try:
            found = json.loads(body)
            found["request_id"] = request_id or found["request_id"]
            return Answer(reply.status, json.dumps(found).encode("ascii"), _without_length(_kept(reply)))
        except (ValueError, TypeError, KeyError):
            pass  # TorchServe's own form, or none
        code = _CODES.get(reply.status, "UNAVAILABLE")
        error = refuse(code, max_body_bytes=self._settings.body_bytes or "the engine's choice of")
        return error_answer(error, request_id)


def _worker(said: Mapping[str, Any]) -> Worker:
    started = datetime.fromisoformat(said["startTime"]).timestamp()
    return Worker(str(said["id"]), said["status"] == "READY", int(said["pid"]) or None, started)


def _path(route: str, model: str, version: str | None) -> str:
    """A model's address.

    Raises:
        ClipError: 404, the name or the version is none, and could lead elsewhere.
    """
    if not re.fullmatch(MODEL, model) or (version and not re.fullmatch(VERSION, version)):
        raise refuse("MODEL_NOT_FOUND")
    return f"/{route}/{model}/{version}" if version else f"/{route}/{model}"


def _id(reply: aiohttp.ClientResponse) -> str:
    return str(reply.headers.get("x-request-id", ""))


def _kept(reply: aiohttp.ClientResponse) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a reply that are the sender's concern."""
    return tuple(
        (name.lower(), value) for name, value in reply.raw_headers if name.lower().decode() in _PASSED_ON
    )


def _without_length(headers: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers if name != b"content-length"}


async def _until_sent(body: AsyncIterator[bytes], asked: traces.Asked) -> AsyncIterator[bytes]:
    async for chunk in body:
        yield chunk
    asked.sent()


async def _chunks(
    reply: aiohttp.ClientResponse, timings: dict[str, float], asked: traces.Asked
) -> AsyncIterator[bytes]:
    """A reply as it comes. At its end its times are counted; only its last bytes are read for them.

    Raises:
        ClipError: 503, the engine broke it off.
    """
    last, count = b"", 0
    try:
        async with reply:
            async for chunk in reply.content.iter_any():
                last, count = (last + chunk)[-_END_BYTES:], count + len(chunk)
                yield chunk
    except aiohttp.ClientError as error:
        raise refuse("UNAVAILABLE") from error
    if found := _TIMINGS.search(last):
        timings |= {name.decode(): float(number) for name, number in _TIMING.findall(found[1])}
        metrics.stages(timings)
        asked.timings(timings)
        if count == len(last):
            content.note(last)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
