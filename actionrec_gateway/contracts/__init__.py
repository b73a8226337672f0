"""Other platforms' contracts. Each is a few routes that put a request into the words of `Engine.predict`, and
its reply into theirs: `v1`, `invocations` (KServe, Vertex AI, SageMaker), `huggingface`, `v2` (Triton, KServe).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from ..settings import Settings
from . import huggingface, invocations, v1
from .v2 import loading, rest


def router(settings: Settings) -> APIRouter:
    """All routes.

    Args:
        settings: with the routes that Vertex AI chooses, which go before all others.
    """
    routes = APIRouter()
    for part in (invocations.router(settings), v1.router(), rest.router(), huggingface.router()):
        routes.include_router(part)
    return routes


@asynccontextmanager
async def life(api: FastAPI) -> AsyncIterator[None]:
    """Serves gRPC where a port is given: ``api.state.grpc_port`` is the one that was taken."""
    port = api.state.settings.grpc_port
    if port is None:
        yield
        return
    server = await loading.server()
    async with server.serving(api, port) as api.state.grpc_port:
        yield
