"""What machines look at: whether the gateway lives, whether it can do its work, and what it measures."""

from __future__ import annotations

import asyncio

from actionrec.errors import ClipError
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from .engine import Engine
from .observe import metrics
from .observe.trees import trees

_ENGINE_SECONDS = 2.0
"""For the engine to say how many requests wait; Prometheus itself waits 10 s."""


class Live(BaseModel):
    """The gateway lives."""

    status: str = "live"


class Ready(BaseModel):
    """Each of these models has just predicted."""

    status: str = "ready"
    models: list[str]


def router() -> APIRouter:
    """The routes for load balancers and orchestrators. All but the metrics ask for no token."""
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

    @routes.get("/metrics", response_class=Response)
    async def measured(request: Request) -> Response:
        """Metrics in Prometheus' format."""
        state = request.app.state
        looks = _waiting(state.engine), _workers(state.engine)
        await asyncio.gather(*looks, *(refresh() for refresh in state.refresh))
        return metrics.exposed(request)

    for path, answer in (("/health", health), ("/ready", ready)):
        # What only wants to know asks so. The document has one of the two: they are the same but for the body.
        routes.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)
    return routes


async def _waiting(engine: Engine) -> None:
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            metrics.set_waiting(await engine.waiting())
        metrics.ENGINE_UP.set(1)
    except (ClipError, TimeoutError):
        metrics.ENGINE_UP.set(0)
        metrics.set_waiting({})  # no figure at all is better than an old one


async def _workers(engine: Engine) -> None:
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            workers = await engine.workers()
            pids = [worker.pid for its in workers.values() for worker in its.found if worker.pid]
            metrics.set_workers(workers, await asyncio.to_thread(trees, pids))
    except (ClipError, TimeoutError):
        metrics.set_workers({}, {})


def not_ready() -> ClipError:
    """The refusal where a model does not predict."""
    return ClipError(
        "NOT_READY", 503, "A model does not predict now.", "Wait some seconds; make status says more."
    )
