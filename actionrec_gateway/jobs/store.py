"""Jobs as clients see them: made, looked at, listed, cancelled, forgotten."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from actionrec.errors import ClipError

from .database import JOBS, PARTS, RESULTS
from .states import ACTIVE, CANCELLED, FINISHED, Job, no_job

_BATCH = 500


class JobStore:
    """The jobs in the database. Calls wait for it, so they belong in threads.

    Args:
        engine: of `database.connect`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(self, job: Job, most_active: int) -> Job:
        """Add a job, unless its client has sent it before.

        Args:
            job: with a new id.
            most_active: jobs that its client may have waiting and running.

        Returns:
            The new job, or the one that has the same idempotency key.

        Raises:
            ClipError: 409, the key was used for something else; 429, too many.
        """
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one writer at a time by itself
                lock = sa.text("SELECT pg_advisory_xact_lock(7203412, hashtext(:client))")
                connection.execute(lock, {"client": job.client})
            count = (
                sa.select(sa.func.count())
                .select_from(JOBS)
                .where(JOBS.c.client == job.client, JOBS.c.state.in_(ACTIVE))
                .scalar_subquery()
            )
            row = job.to_row()
            fresh = sa.select(*(sa.literal(row[c.name], c.type).label(c.name) for c in JOBS.c))
            wanted = fresh.where(count < most_active)
            if job.idempotency_key is not None:
                wanted = wanted.where(
                    ~sa.exists().where(
                        JOBS.c.client == job.client, JOBS.c.idempotency_key == job.idempotency_key
                    )
                )
            if connection.execute(sa.insert(JOBS).from_select([c.name for c in JOBS.c], wanted)).rowcount:
                return job
            before = self._by_key(connection, job.client, job.idempotency_key)
        if before is None:
            raise too_many(most_active)
        return same(before, job.fingerprint)

    def _by_key(self, connection: sa.Connection, client: str, key: str | None) -> Job | None:
        if key is None:
            return None
        asked = sa.select(JOBS).where(JOBS.c.client == client, JOBS.c.idempotency_key == key)
        row = connection.execute(asked).mappings().first()
        return None if row is None else Job.from_row(dict(row))

    def room_for(self, client: str, key: str | None, most_active: int) -> None:
        """Refuse early, before a video is sent, what `create` would refuse.

        Raises:
            ClipError: 429.
        """
        asked = sa.select(sa.func.count()).where(JOBS.c.client == client, JOBS.c.state.in_(ACTIVE))
        with self._engine.connect() as connection:
            if (
                self._by_key(connection, client, key) is None
                and connection.execute(asked).scalar_one() >= most_active
            ):
                raise too_many(most_active)

    def get(self, job_id: str, client: str) -> Job:
        """A client's job.

        Raises:
            ClipError: 404.
        """
        with self._engine.connect() as connection:
            asked = sa.select(JOBS).where(JOBS.c.id == job_id, JOBS.c.client == client)
            row = connection.execute(asked).mappings().first()
        if row is None:
            raise no_job()
        return Job.from_row(dict(row))

    def listed(self, client: str, state: str | None, after: str | None, limit: int) -> Sequence[Job]:
        """A client's jobs, the newest first.

        Args:
            client: whose.
            state: only those in it; None: all.
            after: the last id of the page before.
            limit: at most so many.

        Raises:
            ClipError: 404, `after` is no job.
        """
        asked = sa.select(JOBS).where(JOBS.c.client == client)
        if state is not None:
            asked = asked.where(JOBS.c.state == state)
        if after is not None:
            last = self.get(after, client)
            asked = asked.where(sa.tuple_(JOBS.c.created, JOBS.c.id) < sa.tuple_(last.created, last.id))
        with self._engine.connect() as connection:
            found = connection.execute(asked.order_by(JOBS.c.created.desc(), JOBS.c.id.desc()).limit(limit))
            return [Job.from_row(dict(row)) for row in found.mappings()]

    def active(self, client: str) -> int:
        """How many of a client's jobs wait or run."""
        asked = sa.select(sa.func.count()).where(JOBS.c.client == client, JOBS.c.state.in_(ACTIVE))
        with self._engine.connect() as connection:
            return int(connection.execute(asked).scalar_one())

    def cancel(self, job_id: str, client: str) -> Job:
        """Cancel a job that is not finished.

        Returns:
            How it is now.

        Raises:
            ClipError: 404.
        """
        now = time.time()
        with self._engine.begin() as connection:
            changed = connection.execute(
                sa.update(JOBS)
                .where(JOBS.c.id == job_id, JOBS.c.client == client, JOBS.c.state.in_(ACTIVE))
                .values(
                    state=CANCELLED,
                    finished=now,
                    revision=JOBS.c.revision + 1,
                    call_at=sa.case((JOBS.c.webhook.is_not(None), now)),
                )
            )
            if changed.rowcount:
                connection.execute(sa.delete(PARTS).where(PARTS.c.job == job_id))
        return self.get(job_id, client)

    def result(self, job_id: str) -> dict[str, Any] | None:
        """The reply of a job that is done."""
        with self._engine.connect() as connection:
            data = connection.execute(sa.select(RESULTS.c.reply).where(RESULTS.c.job == job_id)).scalar()
        return None if data is None else dict(json.loads(gzip.decompress(data)))

    def counts(self) -> Mapping[str, int]:
        """How many jobs there are in each state."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                sa.select(JOBS.c.state, sa.func.count().label("jobs")).group_by(JOBS.c.state)
            )
            return {row.state: row.jobs for row in rows}

    def not_queued(self, older_than: float) -> Sequence[Job]:
        """Jobs whose gateway ended before it told dbos of them."""
        asked = sa.select(JOBS).where(~JOBS.c.queued, JOBS.c.state.in_(ACTIVE), JOBS.c.created < older_than)
        with self._engine.connect() as connection:
            return [Job.from_row(dict(row)) for row in connection.execute(asked).mappings()]

    def set_queued(self, job_id: str) -> None:
        """Remember that dbos knows of a job."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(queued=True))

    def too_old(self, finished_before: float, keep_bytes: int) -> list[str]:
        """Ids of finished jobs that are not to be kept: the old ones, and what is too much.

        Args:
            finished_before: seconds of the epoch.
            keep_bytes: of all results together.
        """
        asked = sa.select(JOBS.c.id, JOBS.c.finished, JOBS.c.result_bytes).where(JOBS.c.state.in_(FINISHED))
        gone, kept = [], 0
        with self._engine.connect() as connection:
            for job_id, finished, size in connection.execute(asked.order_by(JOBS.c.finished.desc())):
                kept += size
                if finished < finished_before or kept > keep_bytes:
                    gone.append(job_id)
        return gone

    def delete(self, job_ids: Sequence[str]) -> None:
        """Forget finished jobs."""
        for first in range(0, len(job_ids), _BATCH):
            some = job_ids[first : first + _BATCH]
            with self._engine.begin() as connection:
                connection.execute(sa.delete(JOBS).where(JOBS.c.id.in_(some), JOBS.c.state.in_(FINISHED)))
                for table in (PARTS, RESULTS):
                    connection.execute(sa.delete(table).where(table.c.job.in_(some)))

    def active_among(self, job_ids: Sequence[str]) -> set[str]:
        """Those of the ids that are of jobs which are not finished."""
        found: set[str] = set()
        for first in range(0, len(job_ids), _BATCH):
            asked = sa.select(JOBS.c.id).where(
                JOBS.c.id.in_(job_ids[first : first + _BATCH]), JOBS.c.state.in_(ACTIVE)
            )
            with self._engine.connect() as connection:
                found |= set(connection.execute(asked).scalars())
        return found


def same(before: Job, fingerprint: str) -> Job:
    """The job that was asked for with the same idempotency key.

    Raises:
        ClipError: 409, something else was asked for.
    """
    if before.fingerprint != fingerprint:
        raise ClipError(
            "IDEMPOTENCY_KEY_REUSED",
            409,
            "This Idempotency-Key was sent before, with another video or other options.",
            "Send a new key for a new job.",
        )
    return before


def too_many(most_active: int) -> ClipError:
    """The error for one job more than a client may have."""
    return ClipError(
        "TOO_MANY_JOBS",
        429,
        f"{most_active} of your jobs wait or run, which is the most that you may have.",
        "Wait until one is done, or cancel one.",
    )
