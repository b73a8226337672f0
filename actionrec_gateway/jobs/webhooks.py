"""Calls to a client's own address when its job has ended, signed as https://www.standardwebhooks.com says.

A call is made until it is answered with 2xx, at the times of `WAITS_SECONDS`; every call for one job has the
same ``webhook-id``. Any gateway may make it: it is taken by a condition on how many there were.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from datetime import UTC, datetime

import aiohttp
import sqlalchemy as sa
from actionrec.errors import ClipError
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook

from ..fetch import web
from ..fetch.addresses import resolve
from ..fetch.place import Place
from ..settings import Settings
from .database import JOBS
from .states import Job

logger = logging.getLogger(__name__)

WAITS_SECONDS = (5.0, 30.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
"""After each call that fails; after the last of them no more are made."""
CALL_SECONDS = 15.0
_LOOK_SECONDS = 0.5
_AT_ONCE = 16
_GONE = 410
_SECRET = re.compile(r"(?i)(pass|pwd|token|secret|key|auth|sig)")


class Caller:
    """Makes the calls that are due.

    Args:
        settings: their `webhook_secret` and `fetch_private`.
        engine: of `database.connect`.

    Raises:
        ValueError: the secret is none.
    """

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self._engine = engine
        self._private = settings.fetch_private
        self._signer = signer(settings.webhook_secret)

    async def check(self, url: object) -> str:
        """Make sure that an address may be called.

        Raises:
            ClipError: 400, 403.
        """
        if self._signer is None:
            message, hint = "This server calls nobody.", "Ask /jobs/<id> or /jobs/<id>/events how the job is."
            raise ClipError("WEBHOOKS_OFF", 400, message, hint)
        place = Place.parse(url)
        if place.is_store:
            raise ClipError("BAD_URL", 400, "A webhook is called by http or https.", "Write https://host/path.")
        if _SECRET.search(place.query):
            message = "The webhook's address seems to have a secret in its query."
            raise ClipError("CREDENTIALS_IN_URL", 400, message, "Calls are signed: check the signature.")
        try:
            await resolve(place.host, place.port, private=self._private)
        except ClipError as error:
            if error.status != 502:  # it may have an address when it is called
                raise
        return place.url

    async def life(self) -> None:
        """Make calls until this is cancelled."""
        if self._signer is None:
            return
        async with asyncio.TaskGroup() as group:
            room = asyncio.Semaphore(_AT_ONCE)
            while True:
                try:
                    for job in await asyncio.to_thread(self._due):
                        await room.acquire()
                        group.create_task(self._call(job)).add_done_callback(lambda _: room.release())
                except SQLAlchemyError as error:
                    logger.warning("The database of the jobs cannot be used: %s", type(error).__name__)
                await asyncio.sleep(_LOOK_SECONDS)

    def _due(self) -> list[Job]:
        """Jobs to call for. Each is taken: others leave it alone until the call has had its time."""
        now = time.time()
        taken = []
        with self._engine.connect() as connection:
            rows = (
                connection.execute(sa.select(JOBS).where(JOBS.c.call_at <= now).limit(_AT_ONCE))
                .mappings()
                .all()
            )
        for row in rows:
            mine = sa.update(JOBS).where(
                JOBS.c.id == row["id"], JOBS.c.calls == row["calls"], JOBS.c.call_at <= now
            )
            with self._engine.begin() as connection:
                took = connection.execute(mine.values(calls=JOBS.c.calls + 1, call_at=now + 2 * CALL_SECONDS))
            if took.rowcount:
                taken.append(Job.from_row(dict(row)))
        return taken

    async def _call(self, job: Job) -> None:
        status = 0
        try:
            async with asyncio.timeout(CALL_SECONDS):
                status = await self._answer(job)
        except (ClipError, TimeoutError, aiohttp.ClientError, OSError) as error:
            logger.info("The webhook of job %s does not answer: %s", job.id, type(error).__name__)
        except Exception:
            logger.exception("The webhook of job %s could not be called", job.id)
        again = None
        if not 200 <= status < 300 and status != _GONE and job.calls < len(WAITS_SECONDS):
            again = time.time() + WAITS_SECONDS[job.calls]
        try:
            await asyncio.to_thread(self._called, job.id, again)
        except SQLAlchemyError:
            logger.warning("A call for job %s could not be noted, and may be made again", job.id)

    def _called(self, job_id: str, again: float | None) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(call_at=again))

    async def _answer(self, job: Job) -> int:
        """The status that a call is answered with."""
        place = Place.parse(job.webhook)
        now = datetime.now(UTC)
        event = {"type": f"job.{job.state}", "timestamp": now.isoformat(), "data": job.view()}
        body = json.dumps(event)
        if self._signer is None:
            raise ClipError("WEBHOOKS_OFF", 400, "This gateway has no secret for webhooks.", "Give it one.")
        headers = {
            "Content-Type": "application/json",
            "webhook-id": f"{job.id}.{job.state}",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(f"{job.id}.{job.state}", now, body),
        }
        return await web.post(place, body.encode(), headers, private=self._private)


def signer(secret: str | None) -> Webhook | None:
    """What signs calls; None: there are none.

    Raises:
        ValueError: the secret is none.
    """
    try:
        return Webhook(secret) if secret else None
    except Exception:  # the library has several, and none of them names the setting
        raise ValueError(
            "GATEWAY_WEBHOOK_SECRET is no secret; write whsec_ and base64 of random bytes"
        ) from None
