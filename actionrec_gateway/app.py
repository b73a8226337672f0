"""Puts the gateway together: one ASGI application of its parts.

Identified -> Observed -> Answered -> Access -> Through -> FastAPI
  an id       log, times   errors     tokens    models     all other routes
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from . import contracts, described, errors, health, jobs, live, management, page
from .access import Access, Tokens
from .engine import Engine
from .identity import Identified
from .observe import Observed
from .settings import Settings
from .through import Through


def create_app(settings: Settings, engine: Engine, closing: asyncio.Event | None = None) -> ASGIApp:
    """The gateway as an ASGI application.

    Args:
        settings: its settings.
        engine: what stands behind it. The application closes it at its end.
        closing: set when the gateway is told to end, before it waits for answers: whoever streams for long ends
            then.

    Raises:
        ValueError, OSError: the tokens file cannot be read.
    """

    @asynccontextmanager
    async def life(api: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.close)
            for part in (jobs, live, contracts, page):
                await stack.enter_async_context(part.life(api))
            yield

    api = FastAPIOffline(
        title="Action recognition",
        version=version("slowfast-torchserve"),
        redoc_url=None,
        static_url="/docs/files",
        lifespan=life,
        # `observe` sees all routes, and not FastAPI's alone.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        swagger_ui_parameters={"validatorUrl": None},
    )
    api.state.settings, api.state.engine = settings, engine
    api.state.closing = closing or asyncio.Event()
    api.state.refresh = []  # of `metrics.Refresh`: called before the metrics are shown
    errors.install(api)
    own = health.router(), management.router(), live.router(), page.router()
    for routes in (*own, jobs.router(settings), contracts.router(settings)):
        api.include_router(routes)
    described.complete(api, tokens=settings.tokens is not None)
    tokens = Tokens(settings.tokens) if settings.tokens else None
    return Identified(
        Observed(errors.Answered(Access(Through(api, engine, settings), tokens, settings.health_route)))
    )
