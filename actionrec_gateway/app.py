"""Puts the gateway together: one ASGI application of its parts.

Identified (ids, the last resort for errors) -> Through (models) -> FastAPI (all other routes)
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp

from . import errors, health
from .engine import Engine
from .identity import Identified
from .settings import Settings
from .through import Through

_PARTS = ("fetch", "jobs", "contracts")


def create_app(settings: Settings, engine: Engine) -> ASGIApp:
    """The gateway as an ASGI application.

    Args:
        settings: its settings.
        engine: what stands behind it. The application closes it at its end.
    """
    parts = [
        importlib.import_module(f"{__package__}.{name}")
        for name in _PARTS
        if importlib.util.find_spec(f"{__package__}.{name}")
    ]

    @asynccontextmanager
    async def life(api: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.close)
            for part in parts:
                if hasattr(part, "life"):
                    await stack.enter_async_context(part.life(api))
            yield

    api = FastAPI(title="Action recognition", docs_url=None, redoc_url=None, lifespan=life)
    api.state.settings, api.state.engine = settings, engine
    api.state.closing = asyncio.Event()  # set when the gateway is told to end, before it waits for answers
    errors.install(api)
    api.include_router(health.router())
    for part in parts:
        if hasattr(part, "router"):
            api.include_router(part.router())
    return Identified(Through(api, engine, settings))
