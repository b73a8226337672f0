"""The jobs of this gateway as workflows of dbos: queued, given to one executor, taken over from dead ones.

dbos has the queue and says which executor has which job; the tables of this package have everything else. So a
workflow is one call of `Work`, which may be started again at any moment. A workflow that is left without an
end, by a gateway that stops, stays with its executor until another one says that this executor is dead.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetEnqueueOptions, SetWorkflowID

from .asker import Stopped
from .fleet import Fleet
from .ledger import Ledger
from .states import Job
from .work import Work

logger = logging.getLogger(__name__)

_NAME = "actionrec-gateway"
_VERSION = "1"
"""One for all versions of this program: a workflow has no steps that another version could misread."""
_POLL_SECONDS = 0.2
_AHEAD = 2
"""Jobs that are taken from the queue for each one that is worked on: short ones need not wait for a look."""
_END_SECONDS = 5.0
"""For the threads of the jobs to end."""
_MOST_PRIORITY = 1000

_current: Runner | None = None


class _Left(BaseException):
    """Leaves a workflow without an outcome: dbos writes one down for every `Exception`."""


@DBOS.workflow(name="actionrec.job", max_recovery_attempts=None)
def _job(job_id: str) -> None:
    runner = _current
    if runner is None:
        raise _Left
    runner.work_on(job_id)


class Runner:
    """Works on jobs. There can be one in a process, as there is one dbos.

    Args:
        url: of the database.
        engine: of the same.
        fleet: this gateway among the others.
        at_once: jobs at the same time.
        make: makes the work on a job.
        ended: called with the id of each job that is not worked on any more; says whether it is finished.
    """

    def __init__(
        self,
        url: str,
        engine: sa.Engine,
        fleet: Fleet,
        at_once: int,
        make: Callable[[Job, Ledger], Work],
        ended: Callable[[str], bool],
    ) -> None:
        self._url, self._fleet, self._at_once = url, fleet, at_once
        self._make, self._ended = make, ended
        self._ledger = Ledger(engine, fleet.executor)
        self._queues = (f"{_NAME}-{fleet.store}", _NAME)
        """That of jobs whose videos lie here, and that of jobs which any gateway can do."""
        self._room = threading.Semaphore(at_once)
        self._lock = threading.Lock()
        self._works: dict[str, Work] = {}
        self._threads = 0
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to take jobs, first those of executors that are dead."""
        global _current
        self._fleet.join()
        _current = self
        # It logs in a form of its own, and what it says of lost workflows is ordinary here.
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        config: DBOSConfig = {
            "name": _NAME,
            "system_database_url": self._url,
            "executor_id": self._fleet.executor,
            "application_version": _VERSION,
            "log_level": "CRITICAL",
            "serializer": DBOSPortableJSONSerializer(),
            "enable_otlp": False,
            "scheduler_polling_interval_sec": 3600.0,  # nothing is scheduled
        }
        DBOS(config=config)
        DBOS.listen_queues(list(self._queues))
        DBOS.launch()
        for queue in self._queues:
            DBOS.register_queue(
                queue,
                worker_concurrency=_AHEAD * self._at_once,
                polling_interval_sec=_POLL_SECONDS,
                on_conflict="always_update",
            )
        self.take_over()

    def enqueue(self, job: Job, priority: int) -> None:
        """Have a job done; harmless where dbos has it already.

        Args:
            job: waits.
            priority: from 1; lower ones go first.
        """
        queue = self._queues[1] if job.store is None else f"{_NAME}-{job.store}"
        with SetWorkflowID(job.id), SetEnqueueOptions(priority=min(max(1, priority), _MOST_PRIORITY)):
            DBOS.enqueue_workflow(queue, _job, job.id)

    def work_on(self, job_id: str) -> None:
        """The body of a workflow.

        Raises:
            _Left: this gateway stops; the job goes on elsewhere.
        """
        with self._lock:
            self._threads += 1
        try:
            while not self._room.acquire(timeout=_POLL_SECONDS):
                self._check()
            try:
                self._work_on(job_id)
            finally:
                self._room.release()
        finally:
            with self._lock:
                self._threads -= 1

    def _work_on(self, job_id: str) -> None:
        while True:
            self._check()
            try:
                job = self._ledger.begin(job_id)
                break
            except sa.exc.SQLAlchemyError:
                self._stopping.wait(_POLL_SECONDS)
        if job is not None:
            work = self._make(job, self._ledger)
            with self._lock:
                self._works[job_id] = work
            try:
                self._check()
                work.run()
            except Stopped:
                self._check()
            finally:
                with self._lock:
                    del self._works[job_id]
        if not self._ended(job_id):
            raise _Left  # it is somebody else's now, who will write its outcome down

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _Left

    def stop_lost(self) -> None:
        """End the work on jobs that are cancelled, or not this executor's any more."""
        with self._lock:
            works = dict(self._works)
        if works:
            for job_id in self._ledger.lost(works):
                works[job_id].stop()

    def so_far(self, job_id: str) -> dict[str, Any] | None:
        """What is known of a job that is worked on here; None: nothing yet."""
        with self._lock:
            work = self._works.get(job_id)
        return None if work is None else work.so_far()

    def stop_one(self, job_id: str) -> None:
        """End the work on a job, where it is done here."""
        with self._lock:
            work = self._works.get(job_id)
        if work is not None:
            work.stop()

    def take_over(self) -> None:
        """Have the jobs of dead executors done, by whoever has room."""
        for executor in self._fleet.dead():
            DBOS._recover_pending_workflows([executor])  # conductors call it so too
            self._fleet.bury(executor)
            logger.info("The jobs of a gateway that is gone are taken over: %s", executor)

    def forget(self, job_ids: list[str]) -> None:
        """Have dbos forget workflows."""
        DBOS.delete_workflows(job_ids)

    def stop(self) -> None:
        """Stop working. What is not done goes on in another gateway, or in this one's next life."""
        global _current
        self._stopping.set()
        with self._lock:
            works = list(self._works.values())
        for work in works:
            work.stop()
        deadline = time.monotonic() + _END_SECONDS
        while self._threads and time.monotonic() < deadline:
            time.sleep(0.02)
        DBOS.destroy()
        _current = None
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            self._fleet.leave()
        self._fleet.close()
