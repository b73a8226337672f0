"""Durable jobs: long work that outlives connections, engines and gateways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from .routes import router
from .service import Jobs

__all__ = ["Jobs", "life", "router"]


@asynccontextmanager
async def life(api: FastAPI) -> AsyncIterator[None]:
    """Have jobs for as long as the application lives: ``api.state.jobs``.

    Raises:
        ValueError: a setting is of no use.
    """
    jobs = Jobs(api.state.settings, api.state.engine)
    async with jobs.life():
        api.state.jobs = jobs
        yield
