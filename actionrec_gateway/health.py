"""Whether the gateway lives, and whether it can do its work."""

from __future__ import annotations

from actionrec.errors import ClipError
from fastapi import APIRouter, Request
from pydantic import BaseModel

from .engine import Engine


class Live(BaseModel):
    """The gateway lives."""

    status: str = "live"


class Ready(BaseModel):
    """Each of these models has just predicted."""

    status: str = "ready"
    models: list[str]


def router() -> APIRouter:
    """The routes for load balancers and orchestrators. They ask for no token."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health")
    async def health() -> Live:
        """Whether the gateway lives, whatever the engine does."""
        return Live()

    @routes.get("/ready")
    async def ready(request: Request) -> Ready:
        """Whether every model answers a real prediction, or answered one in the last seconds."""
        engine: Engine = request.app.state.engine
        names = await engine.models()
        if not await engine.ready():
            raise not_ready()
        return Ready(models=names)

    return routes


def not_ready() -> ClipError:
    """The refusal where a model does not predict."""
    return ClipError(
        "NOT_READY", 503, "A model does not predict now.", "Wait some seconds; make status says more."
    )
