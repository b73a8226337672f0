"""The requests of `Transport` on httpx: the same attempts, deadlines and errors, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import tenacity

from ..bearer import Bearer, is_loopback
from ..errors import Unreachable, redirected
from ..patience import Patience
from ..transport import Body, Method, bad_url, check_limits, encoded, no_reply, parsed

_CHUNK_BYTES = 1 << 18


class AsyncTransport:
    """See `Transport`. Belongs to one event loop.

    Args:
        token, timeout_seconds, attempt_seconds, insecure_token: as of `Transport`.

    Raises:
        Refused: ``BAD_TOKEN``.
        ValueError: a time limit is out of range.
    """

    def __init__(
        self,
        token: str | None,
        timeout_seconds: float,
        attempt_seconds: float | None = None,
        *,
        insecure_token: bool = False,
    ) -> None:
        check_limits(timeout_seconds, attempt_seconds)
        self.timeout_seconds = timeout_seconds
        self.attempt_seconds = attempt_seconds
        self.bearer = Bearer(token, insecure=insecure_token)
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def call(
        self,
        method: Method,
        url: str,
        body: Body | None = None,
        timeout_seconds: float | None = None,
        *,
        own_error: bool = True,
    ) -> Any:  # noqa: ANN401  # whatever JSON came
        """See `Transport.call`.

        Raises:
            ServerError: that of the last attempt before the deadline, or one that another attempt would not
                change.
        """
        patience = Patience(timeout_seconds or self.timeout_seconds, self.attempt_seconds)

        async def attempt() -> Any:  # noqa: ANN401
            return await self.once(method, url, body, patience.next_seconds(), own_error=own_error)

        return await tenacity.AsyncRetrying(**patience.policy)(attempt)

    async def once(
        self,
        method: Method,
        url: str,
        body: Body | None = None,
        timeout_seconds: float | None = None,
        *,
        own_error: bool = True,
    ) -> Any:  # noqa: ANN401
        """See `Transport.once`.

        Raises:
            ServerError: there is no reply in time, or not a good one.
        """
        limit = timeout_seconds or self.timeout_seconds
        body = body or Body()
        data, headers = encoded(body)
        content: bytes | AsyncIterator[bytes] | None = data if isinstance(data, bytes) else None
        if body.file is not None:
            headers["Content-Length"] = str(body.file.stat().st_size)
            content = _read(body.file)
        try:
            async with asyncio.timeout(limit):
                reply = await self._client(url).request(
                    method,
                    url,
                    content=content,
                    data=dict(data) if isinstance(data, Mapping) else None,
                    headers={**headers, **self.bearer.header(url)},
                    timeout=limit,
                )
        except (TimeoutError, httpx.TimeoutException) as error:
            raise no_reply(url, limit) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise bad_url(url, error) from error
        except (httpx.HTTPError, OSError) as error:
            message = f"No reply from {url}: {str(error) or type(error).__name__}."
            raise Unreachable("UNREACHABLE", 0, message, "Is the server up, and the address right?") from error
        if reply.has_redirect_location:
            raise redirected(reply, url)
        return parsed(reply, reply.reason_phrase, self.bearer.hide(reply.text), own_error=own_error)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    def _client(self, url: str) -> httpx.AsyncClient:
        """One that takes proxies from the environment, except for this machine."""
        outside = not is_loopback(urlsplit(url).hostname or "")
        if outside not in self._clients:
            self._clients[outside] = httpx.AsyncClient(trust_env=outside, follow_redirects=False)
        return self._clients[outside]


async def _read(path: Path) -> AsyncIterator[bytes]:
    """A file, piece by piece."""
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
