"""All that lives as long as the gateway for its jobs: the runner, and what looks after it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import sqlalchemy as sa
from actionrec.errors import ClipError

from ..engine import Engine
from ..fetch import Fetcher
from ..settings import Settings
from . import database
from .files import Files, job_of
from .fleet import Fleet
from .ledger import Ledger
from .runner import Runner
from .states import Job
from .store import JobStore
from .webhooks import Caller, signer
from .work import Work

logger = logging.getLogger(__name__)

_PULSE_SECONDS = 0.4
"""Within which a job that was cancelled at another gateway ends."""
_BEAT_SECONDS = 2.0
_TIDY_SECONDS = 60.0
_UNQUEUED_SECONDS = 10.0
"""After which a job that dbos does not know of was left behind by a gateway that died."""
_DAY_SECONDS = 86_400.0


def check(settings: Settings) -> None:
    """Make sure that the settings of jobs are of use.

    Raises:
        ValueError: one of them is not.
    """
    database.address(settings.database_url, settings.run_dir)
    Fetcher(settings)
    signer(settings.webhook_secret)


class Jobs:
    """The jobs of a gateway.

    Args:
        settings: of the gateway.
        engine: that answers.

    Raises:
        ValueError: a setting is of no use.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine
        self._url = database.address(settings.database_url, settings.run_dir)
        self.fetcher = Fetcher(settings)
        settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files = Files(settings.run_dir)
        self._database = database.connect(self._url)
        self.store = JobStore(self._database)
        self.caller = Caller(settings, self._database)
        self._loop = asyncio.get_running_loop()
        self._fleet: Fleet
        self._runner: Runner

    def _new_life(self) -> None:
        """Be an executor that has never been before."""
        self._fleet = Fleet(self._database, self._settings.run_dir)
        self._runner = Runner(
            self._url, self._database, self._fleet, self._settings.jobs_at_once, self._work, self._ended
        )
        self._runner.start()

    def _work(self, job: Job, ledger: Ledger) -> Work:
        return Work(
            job, self._engine, self.fetcher, self._loop, ledger, self.files, self._settings.upload_bytes
        )

    def _ended(self, job_id: str) -> bool:
        """Remove the video of a job that is finished; False: it is not."""
        if self.store.active_among([job_id]):
            return False
        self.files.remove(job_id)
        return True

    async def submit(self, job: Job) -> Job:
        """Have a job done.

        Returns:
            It, or the one that was sent before with the same idempotency key.

        Raises:
            ClipError: 409, 429.
        """

        def add() -> Job:
            made = self.store.create(job, self._settings.jobs_per_client)
            if made.id == job.id:
                try:
                    self._enqueue(made)
                except Exception:  # it is kept, and `_beat` tells dbos of it a little later
                    logger.exception("Job %s could not be queued at once", made.id)
            return made

        return await asyncio.to_thread(add)

    def _enqueue(self, job: Job) -> None:
        # The more a client has waiting, the later its next one: nobody waits for all of another's.
        self._runner.enqueue(job, self.store.active(job.client))
        self.store.set_queued(job.id)

    async def cancel(self, job_id: str, client: str) -> Job:
        """Cancel a job that is not finished.

        Raises:
            ClipError: 404.
        """
        job = await asyncio.to_thread(self.store.cancel, job_id, client)
        self._runner.stop_one(job_id)
        await asyncio.to_thread(self._ended, job_id)
        return job

    async def delete(self, job_id: str, client: str) -> None:
        """Cancel a job, and forget it with all that is of it.

        Raises:
            ClipError: 404.
        """
        await self.cancel(job_id, client)
        await asyncio.to_thread(self._forget, [job_id])

    async def shared(self) -> str:
        """Name of the run_dir, where all gateways have the same.

        Raises:
            ClipError: 409, they have not: another one could not go on with a job whose video lies here.
        """
        if await asyncio.to_thread(self._fleet.apart):
            raise ClipError(
                "NOT_SHARED",
                409,
                "The gateways of this service have no folder in common: a video lies with one of them.",
                "Send the address of the video, without a signature, or have all gateways share their run_dir.",
            )
        return self._fleet.store

    def so_far(self, job_id: str) -> dict[str, Any] | None:
        """What is known of a job that this gateway works on; None: nothing yet."""
        return self._runner.so_far(job_id)

    def counts(self) -> Mapping[str, int]:
        """How many jobs there are in each state; waits for the database."""
        return self.store.counts()

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """Work, until the end of the block."""
        await asyncio.to_thread(self._new_life)
        tasks = [
            asyncio.create_task(self._again(seconds, what))
            for seconds, what in (
                (_PULSE_SECONDS, self._pulse),
                (_BEAT_SECONDS, self._beat),
                (_TIDY_SECONDS, self._tidy),
            )
        ]
        tasks.append(asyncio.create_task(self.caller.life()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._runner.stop)
            self._database.dispose()

    async def _again(self, seconds: float, what: Callable[[], None]) -> None:
        failing = False
        while True:
            try:
                await asyncio.to_thread(what)
                failing = False
            except sa.exc.SQLAlchemyError as error:
                self._fleet.unseen()
                if not failing:
                    logger.warning("The database of the jobs cannot be used: %s", type(error).__name__)
                failing = True
            except Exception:
                logger.exception("The jobs could not be looked after")
            await asyncio.sleep(seconds)

    def _pulse(self) -> None:
        self._runner.stop_lost()

    def _beat(self) -> None:
        if not self._fleet.beat():
            logger.warning("The other gateways took this one for dead; it begins again")
            self._runner.stop()
            self._new_life()
        self._runner.take_over()
        for job in self.store.not_queued(time.time() - _UNQUEUED_SECONDS):
            self._enqueue(job)

    def _tidy(self) -> None:
        limit = time.time() - self._settings.keep_days * _DAY_SECONDS
        self._forget(self.store.too_old(limit, self._settings.keep_bytes))
        files = self.files.forgotten()
        wanted = self.store.active_among(sorted({job_of(name) for name in files}))
        for name, path in files.items():
            if job_of(name) not in wanted:
                with suppress(OSError):
                    path.unlink()

    def _forget(self, job_ids: list[str]) -> None:
        if job_ids:
            self._runner.forget(job_ids)
            self.store.delete(job_ids)
            for job_id in job_ids:
                self.files.remove(job_id)
