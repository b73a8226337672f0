"""What the work on a job writes down, so that it can be killed at any moment and goes on where it was.

Everything is written on condition that the job still runs, and on this gateway: an executor that was believed
dead and is not can change nothing.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from .database import JOBS, PARTS, RESULTS
from .states import ACTIVE, DONE, FAILED, RUNNING, Job


class Ledger:
    """The records of one executor. Calls wait for the database.

    Args:
        engine: of `database.connect`.
        executor: whose records.
    """

    def __init__(self, engine: sa.Engine, executor: str) -> None:
        self._engine = engine
        self._executor = executor

    def begin(self, job_id: str) -> Job | None:
        """Take a job over, from whoever worked on it before; None: there is nothing more to do for it."""
        with self._engine.begin() as connection:
            taken = connection.execute(
                sa.update(JOBS)
                .where(JOBS.c.id == job_id, JOBS.c.state.in_(ACTIVE))
                .values(
                    state=RUNNING,
                    runner=self._executor,
                    queued=True,
                    started=sa.func.coalesce(JOBS.c.started, time.time()),
                    note=None,
                    seconds_left=None,
                    revision=JOBS.c.revision + 1,
                )
            )
            if not taken.rowcount:
                return None
            row = connection.execute(sa.select(JOBS).where(JOBS.c.id == job_id)).mappings().one()
        return Job.from_row(dict(row))

    def _mine(self, job_id: str) -> tuple[sa.ColumnElement[bool], ...]:
        return JOBS.c.id == job_id, JOBS.c.state == RUNNING, JOBS.c.runner == self._executor

    def progress(self, job_id: str, done: int, total: int, seconds_left: float | None) -> None:
        """Write down how many windows are done."""
        self._update(job_id, done=done, total=total, seconds_left=seconds_left, progressed=time.time())

    def note(self, job_id: str, note: str | None) -> None:
        """Write down what the job waits for."""
        self._update(job_id, note=note)

    def _update(self, job_id: str, **values: object) -> None:
        with self._engine.begin() as connection:
            changed = sa.update(JOBS).where(*self._mine(job_id))
            connection.execute(changed.values(revision=JOBS.c.revision + 1, **values))

    def done(self, job_id: str, result: Mapping[str, Any]) -> bool:
        """Write the result down, and forget the parts; False: the job is not this executor's any more."""
        data = gzip.compress(json.dumps(result).encode(), 6)
        with self._engine.begin() as connection:
            if not self._finish(connection, job_id, DONE, result_bytes=len(data), seconds_left=0.0):
                return False
            connection.execute(sa.insert(RESULTS).values(job=job_id, reply=data))
            connection.execute(sa.delete(PARTS).where(PARTS.c.job == job_id))
        return True

    def failed(self, job_id: str, error: Mapping[str, Any]) -> bool:
        """Write down why there is no result."""
        with self._engine.begin() as connection:
            if not self._finish(connection, job_id, FAILED, error=json.dumps(error)):
                return False
            connection.execute(sa.delete(PARTS).where(PARTS.c.job == job_id))
        return True

    def _finish(self, connection: sa.Connection, job_id: str, state: str, **values: object) -> bool:
        now = time.time()
        finished = sa.update(JOBS).where(*self._mine(job_id))
        finished = finished.values(
            state=state,
            finished=now,
            revision=JOBS.c.revision + 1,
            call_at=sa.case((JOBS.c.webhook.is_not(None), now)),
            **values,
        )
        return bool(connection.execute(finished).rowcount)

    def part(self, job_id: str, key: str) -> dict[str, Any] | None:
        """What a part was answered; None: it was not yet."""
        asked = sa.select(PARTS.c.reply).where(PARTS.c.job == job_id, PARTS.c.key == key)
        with self._engine.connect() as connection:
            data = connection.execute(asked).scalar()
        return None if data is None else dict(json.loads(gzip.decompress(data)))

    def add_part(self, job_id: str, key: str, reply: Mapping[str, Any]) -> None:
        """Write down what a part was answered."""
        data = gzip.compress(json.dumps(reply).encode(), 1)
        values = sa.select(sa.literal(job_id), sa.literal(key), sa.literal(data, sa.LargeBinary)).where(
            sa.exists().where(*self._mine(job_id)),
            ~sa.exists().where(PARTS.c.job == job_id, PARTS.c.key == key),
        )
        with self._engine.begin() as connection:
            connection.execute(sa.insert(PARTS).from_select(["job", "key", "reply"], values))

    def lost(self, job_ids: Iterable[str]) -> set[str]:
        """Those of the jobs that are cancelled, or not this executor's any more."""
        ids = list(job_ids)
        asked = sa.select(JOBS.c.id).where(
            JOBS.c.id.in_(ids), JOBS.c.state == RUNNING, JOBS.c.runner == self._executor
        )
        with self._engine.connect() as connection:
            return set(ids) - set(connection.execute(asked).scalars())
