"""An engine at TorchServe's address."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from actionrec.errors import ClipError
from actionrec.refusals import REFUSALS, refuse

from .bodies import OPAQUE, form
from .engine import Answer, Stream
from .errors import JSON, error_body, error_headers
from .settings import Settings

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 2.0
_MANAGEMENT_SECONDS = 5.0
_PROBE_SECONDS = 30.0
_REMEMBERED_SECONDS = 5.0
"""How long a right answer counts as a sign that the model predicts..."""
_FORGIVEN_SECONDS = 1.0
"""... and a wrong one as a sign that it does not."""
_ERROR_BYTES = 1 << 20
"""More of a refusal is not read."""
_OWN = "x-actionrec"
"""Header of each reply of the project's handler, which tells it from TorchServe's own."""
_PASSED_ON = frozenset({"content-type", "content-length", "retry-after"})
_PROBE = Path(__file__).parent / "probe.mp4"
"""64 frames of 96x96 pixels: a bright square crosses a grey field from left to right."""
_SHOWN = {"motion": "moving right"}
"""Model -> what it has to call this clip. Of other models any prediction is right."""
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
        self._probes: dict[str, asyncio.Lock] = {}
        self._right: dict[str, float] = {}
        self._wrong: dict[str, float] = {}

    async def forward(self, path: str, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Stream:
        """See `Engine.forward`."""
        sent = {**headers, "content-type": OPAQUE}
        reply = await self._ask(self._settings.engine + path, body, sent)
        if reply.status < 300:
            self._right[path.split("/")[2]] = time.monotonic()
            return Stream(reply.status, _kept(reply), _chunks(reply))
        refused = await self._refusal(reply, headers.get("x-request-id", ""))
        raw = tuple((name.encode("ascii"), value.encode("ascii")) for name, value in refused.headers.items())
        return Stream(refused.status, raw, _once(refused.body))

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
        path = f"/predictions/{model}/{version}" if version else f"/predictions/{model}"
        body = form(video, options, secrets.token_hex(16))
        headers = {"x-request-id": request_id, "content-length": str(len(body))}
        if client:
            headers["x-actionrec-client"] = client
        try:
            stream = await self.forward(path, _once(body), headers)
            reply = b"".join([chunk async for chunk in stream.body])
        except ClipError as error:
            return Answer(
                error.status, error_body(error, request_id), {"content-type": JSON, **error_headers(error)}
            )
        return Answer(stream.status, reply, {n.decode(): v.decode() for n, v in stream.headers})

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

    async def describe(self, model: str) -> dict[str, Any]:
        """See `Engine.describe`."""
        entry = (await self._management(f"/models/{model}?customized=true"))[0]
        described = entry.get("customizedMetadata", "")
        return dict(json.loads(described)) if isinstance(described, str) else dict(described)

    async def ready(self, model: str | None = None) -> bool:
        """See `Engine.ready`."""
        try:
            names = [model] if model else await self.models()
            return bool(names) and all(await asyncio.gather(*(self._predicts(name) for name in names)))
        except ClipError:
            return False

    async def waiting(self) -> dict[str, int]:
        """See `Engine.waiting`."""
        names = await self.models()
        found = await asyncio.gather(*(self._management(f"/models/{name}") for name in names))
        return {
            name: sum(int(entry["jobQueueStatus"]["pendingRequests"]) for entry in entries)
            for name, entries in zip(names, found, strict=True)
        }

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._http.close()

    async def _predicts(self, model: str) -> bool:
        """Whether a model predicted for anyone in the last seconds, or predicts the probe clip."""
        async with self._probes.setdefault(model, asyncio.Lock()):
            now = time.monotonic()
            if now - self._right.get(model, -1e9) < _REMEMBERED_SECONDS:
                return True
            if now - self._wrong.get(model, -1e9) < _FORGIVEN_SECONDS:
                return False
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    answer = await self.predict(model, _PROBE.read_bytes(), {}, request_id="probe")
                right = answer.status == 200 and _is_right(model, answer.body)
            except TimeoutError:
                right = False
            if not right:
                self._right.pop(model, None)  # `forward` looked at the status alone
                self._wrong[model] = time.monotonic()
            return right

    async def _ask(
        self,
        url: str,
        body: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request: POST with a body, GET without.

        Raises:
            ClipError: 503 or 504, there is no answer.
        """
        try:
            return await self._http.request(
                "GET" if body is None else "POST",
                url,
                data=body,
                headers=headers,
                timeout=timeout or self._patience,
                allow_redirects=False,
            )
        except aiohttp.ServerTimeoutError as error:
            raise refuse("UPSTREAM_TIMEOUT") from error
        except aiohttp.ClientError as error:
            logger.warning("The engine does not answer: %s", error)
            raise refuse("UNAVAILABLE") from error

    async def _management(self, path: str) -> Any:  # noqa: ANN401  # JSON
        """The JSON that the management API answers.

        Raises:
            ClipError: 404, there is no such model; 503, it does not answer.
        """
        timeout = aiohttp.ClientTimeout(total=_MANAGEMENT_SECONDS)
        try:
            async with await self._ask(self._settings.management + path, timeout=timeout) as reply:
                if reply.status == 404:
                    raise refuse("MODEL_NOT_FOUND")
                if reply.status != 200:
                    raise refuse("UNAVAILABLE")
                return json.loads(await reply.read())
        except (TimeoutError, ValueError, aiohttp.ClientError) as error:
            raise refuse("UNAVAILABLE") from error

    async def _refusal(self, reply: aiohttp.ClientResponse, request_id: str) -> Answer:
        """A refusal of TorchServe or of the handler, in the project's form and with the request's own id."""
        async with reply:
            body = await reply.content.read(_ERROR_BYTES) if _OWN in reply.headers else b""
        try:
            found = json.loads(body)
            found["request_id"] = request_id or found["request_id"]
            kept = {n.decode(): v.decode() for n, v in _kept(reply) if n != b"content-length"}
            return Answer(reply.status, json.dumps(found).encode("ascii"), kept)
        except (ValueError, TypeError, KeyError):
            pass  # TorchServe's own form, or none
        code = _CODES.get(reply.status, "UNAVAILABLE")
        error = refuse(code, max_body_bytes=self._settings.body_bytes or "the engine's choice of")
        headers = {"content-type": JSON, **error_headers(error)}
        return Answer(REFUSALS[code].status, error_body(error, request_id), headers)


def _kept(reply: aiohttp.ClientResponse) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a reply that are the sender's concern."""
    return tuple(
        (name.lower(), value) for name, value in reply.raw_headers if name.lower().decode() in _PASSED_ON
    )


async def _chunks(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with reply:
        async for chunk in reply.content.iter_any():
            yield chunk


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _is_right(model: str, body: bytes) -> bool:
    """Whether a reply names labels, and of the bundled model the right one."""
    try:
        best = json.loads(body)["predictions"][0]
        label, score = str(best["label"]), float(best["score"])
    except (ValueError, KeyError, TypeError, IndexError):
        return False
    return 0.0 <= score <= 1.0 and label == _SHOWN.get(model, label)
