"""Servers that videos are fetched from, and what a refused fetch says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from actionrec.errors import ClipError
from aiohttp import web

from actionrec_gateway.fetch import fetch
from actionrec_gateway.settings import Settings

VIDEO = bytes(range(256)) * 400
SECRET = "s3cr3t-signature"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """A web server on a free port of this machine; its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    try:
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def video(_: web.Request) -> web.StreamResponse:
    return web.Response(body=VIDEO)


def refused(
    code: str, url: str, allowed: tuple[str, ...] = ("https://*/", "http://*/"), private: bool = False
) -> ClipError:
    """The error that a fetch ends with; fails where there is none, or another."""
    with pytest.raises(ClipError) as caught:
        asyncio.run(fetch(url, Settings(fetch=allowed, fetch_private=private)))
    assert caught.value.code == code, caught.value
    return caught.value
