"""How a job goes, as server-sent events: one for each change, until it has ended."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from actionrec.errors import ClipError
from sqlalchemy.exc import SQLAlchemyError

from .states import FINISHED, Job
from .store import JobStore

LOOK_SECONDS = 0.5
QUIET_SECONDS = 15.0
"""After which a comment shows that the connection is alive."""


async def events(store: JobStore, job: Job, seen: int, closing: asyncio.Event) -> AsyncIterator[bytes]:
    """The events of a job.

    Args:
        store: has it.
        job: as it is now.
        seen: the last one that was seen; -1: none.
        closing: set when the gateway ends; then the stream ends too, and the client asks another one.
    """
    yield f"retry: {int(LOOK_SECONDS * 2000)}\n\n".encode()
    last = time.monotonic()
    while True:
        if job.revision > seen:
            seen, last = job.revision, time.monotonic()
            yield f"id: {seen}\nevent: {job.state}\ndata: {json.dumps(job.view())}\n\n".encode()
        elif time.monotonic() - last > QUIET_SECONDS:
            last = time.monotonic()
            yield b": the job goes on\n\n"
        if job.state in FINISHED or closing.is_set():
            return
        await asyncio.sleep(LOOK_SECONDS)
        try:
            job = await asyncio.to_thread(store.get, job.id, job.client)
        except ClipError:  # it was removed
            return
        except SQLAlchemyError:
            continue


def last_seen(header: str | None) -> int:
    """The header ``Last-Event-ID``."""
    return int(header) if header is not None and header.isdigit() and len(header) < 10 else -1
