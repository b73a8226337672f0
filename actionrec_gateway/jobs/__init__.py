"""Durable jobs: long work that outlives connections, engines and gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from ..observe.metrics import JOBS
from .routes import router
from .service import Jobs
from .states import STATES

__all__ = ["Jobs", "life", "router"]


@asynccontextmanager
async def life(api: FastAPI) -> AsyncIterator[None]:
    """Have jobs for as long as the application lives: ``api.state.jobs``.

    Raises:
        ValueError: a setting is of no use.
        OSError: the run directory or the database cannot be used.
    """
    try:
        jobs = Jobs(api.state.settings, api.state.engine)
    except SQLAlchemyError as error:
        # Without the error itself, which may hold the address with its password.
        why = type(error).__name__
        raise OSError(f"The database of the jobs cannot be opened ({why}). Is DATABASE_URL right?") from None

    async def refresh() -> None:
        try:
            counts = await asyncio.to_thread(jobs.counts)
        except SQLAlchemyError:
            return
        for state in STATES:
            JOBS.labels(state).set(counts.get(state, 0))

    async with jobs.life():
        api.state.jobs = jobs
        api.state.refresh.append(refresh)
        yield
