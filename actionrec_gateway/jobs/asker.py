"""Asks the engine for a job's parts, each until it is answered, and each answered one never again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from actionrec.errors import ClipError
from sqlalchemy.exc import SQLAlchemyError

from actionrec_client.errors import BadReply, Busy, Refused, ServerError, ServerFailed

from ..engine import Engine
from .ledger import Ledger
from .states import Job

logger = logging.getLogger(__name__)
Value = TypeVar("Value")

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 15.0
"""Before an engine that does not answer is asked again."""
MOST_TRIES = 50
"""Times that a part is asked for while the engine answers others: then it is the part that ends its workers."""
DESCRIBE_TRIES = 4
"""The same for what the archive says of itself: where only the management is closed, a reply says enough."""
MISSING_MODEL_SECONDS = 600.0
"""How long a model may be missing: an engine that starts has none for a while."""
ANSWER_SECONDS = 300.0
"""The longest that one answer is waited for, whatever the engine's own limit is."""
_LOOK_SECONDS = 0.1
_AWAY = "The engine does not answer, or is busy; the job goes on when it does."
_GONE = "MODEL_NOT_FOUND"


class Stopped(Exception):
    """The job is cancelled, or goes on elsewhere."""


class Stop:
    """Tells the threads of a job to end."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End."""
        self._event.set()

    def check(self) -> None:
        """Return where the job goes on.

        Raises:
            Stopped: it does not.
        """
        if self._event.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Stopped: the job does not go on.
        """
        self._event.wait(seconds)
        self.check()

    def patiently(self, call: Callable[[], Value]) -> Value:
        """Call what needs the database, again until that is there and has room.

        Raises:
            Stopped: the job does not go on.
        """
        wait = FIRST_WAIT_SECONDS
        while True:
            self.check()
            try:
                return call()
            except SQLAlchemyError as error:
                logger.warning("The database of the jobs cannot be used: %s", type(error).__name__)
            self.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def on_loop(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Value]) -> Value:
        """Have an event loop do something, and wait for it in this thread.

        Raises:
            Stopped: the job does not go on; the work is cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(work, loop)
        done = threading.Event()  # a wait for the result could not be told from a TimeoutError of the work
        future.add_done_callback(lambda _: done.set())
        try:
            while not done.wait(_LOOK_SECONDS):
                self.check()
            return future.result()
        finally:
            future.cancel()


class Asker:
    """A `Sender` of a timeline whose answers outlive this process. Its methods are called by several threads.

    Args:
        job: whose parts.
        engine: that answers them.
        loop: on which the engine lives.
        ledger: where answers are written down.
        stop: ends the waiting.
    """

    def __init__(
        self, job: Job, engine: Engine, loop: asyncio.AbstractEventLoop, ledger: Ledger, stop: Stop
    ) -> None:
        self._job, self._engine, self._loop, self._ledger, self._stop = job, engine, loop, ledger, stop
        self.asked_since: float | None = None
        """When the engine was asked for the first time, on the clock of `time.monotonic`."""
        self._away = 0
        self._lock = threading.Lock()

    def post(self, data: bytes, options: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:  # noqa: ARG002
        """The reply to a part.

        Args:
            data: a video file.
            options: of a request; those that are None are left out.
            timeout: not used: a job has time.

        Raises:
            ServerError: the engine refuses it, and would again.
            Stopped: the job does not go on.
        """
        given = {name: value for name, value in options.items() if value is not None}
        said = json.dumps(given, sort_keys=True).encode()
        key = hashlib.sha256(hashlib.sha256(data).digest() + said).hexdigest()

        async def ask() -> tuple[int, Any]:
            job = self._job
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._engine.predict(
                    job.model, data, given, request_id=job.request_id, version=job.version, client=job.client
                )
            return answer.status, json.loads(answer.body)

        return self._kept(key, ask, MOST_TRIES)

    def describe(self) -> dict[str, Any]:
        """What the archive says of itself; see `Sender.describe`.

        Raises:
            ServerError: it does not say.
            Stopped: the job does not go on.
        """

        async def ask() -> tuple[int, Any]:
            return 200, await self._engine.describe(self._job.model)

        return self._kept("description", ask, DESCRIBE_TRIES)

    def _kept(
        self, key: str, ask: Callable[[], Coroutine[Any, Any, tuple[int, Any]]], most_tries: int
    ) -> dict[str, Any]:
        reply = self._stop.patiently(lambda: self._ledger.part(self._job.id, key))
        if reply is None:
            status, body = self._answered(ask, most_tries)
            reply = {"status": status, "body": body}
            kept = reply
            self._stop.patiently(lambda: self._ledger.add_part(self._job.id, key, kept))
        if reply["status"] == 200:
            return dict(reply["body"])
        raise error_of(reply["status"], reply["body"])

    def _answered(
        self, ask: Callable[[], Coroutine[Any, Any, tuple[int, Any]]], most_tries: int
    ) -> tuple[int, Any]:
        """An answer that would come again."""
        wait, tries, began = FIRST_WAIT_SECONDS, 0, time.monotonic()
        waiting = False
        self.asked_since = self.asked_since or began
        try:
            while True:
                self._stop.check()
                status, body = self._once(ask)
                error = error_of(status, body) if status != 200 else None
                missing = (
                    error is not None
                    and error.code == _GONE
                    and time.monotonic() - began < MISSING_MODEL_SECONDS
                )
                if not missing and not isinstance(error, Busy):
                    return status, body
                if self._stop.on_loop(self._loop, self._engine.ready(self._job.model)):
                    tries += 1
                if tries >= most_tries:
                    return status, body
                if not waiting:
                    waiting = True
                    self._is_away(1)
                self._stop.wait(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        finally:
            if waiting:
                self._is_away(-1)

    def _once(self, ask: Callable[[], Coroutine[Any, Any, tuple[int, Any]]]) -> tuple[int, Any]:
        try:
            return self._stop.on_loop(self._loop, ask())
        except TimeoutError:
            return 504, {
                "error": {"code": "UPSTREAM_TIMEOUT", "message": "No answer came in time.", "hint": ""}
            }
        except ClipError as error:
            return error.status, {"error": error.to_dict()}
        except ValueError:  # an answer that is no JSON: it was cut off
            return 503, {"error": {"code": "UNAVAILABLE", "message": "The answer was cut off.", "hint": ""}}

    def _is_away(self, change: int) -> None:
        with self._lock:
            self._away += change
            note = _AWAY if self._away else None
        try:
            self._stop.patiently(lambda: self._ledger.note(self._job.id, note))
        except Stopped:
            if change > 0:
                raise


def error_of(status: int, body: object) -> ServerError:
    """An error of the engine's as one that a client knows.

    Args:
        status: of its answer.
        body: its JSON.
    """
    said = body.get("error") if isinstance(body, dict) else None
    if not isinstance(said, dict):
        if status >= 500:  # of whatever stands between
            return Busy("UNAVAILABLE", status, "The engine cannot be reached.")
        return BadReply("BAD_REPLY", status, "The engine's answer is of another kind of server.")
    status = said["status"] if isinstance(said.get("status"), int) else status
    fields = str(said.get("code", "UNKNOWN")), status, str(said.get("message", "")), str(said.get("hint", ""))
    if status in (429, 502, 504) or (status == 503 and fields[0] != "OUT_OF_TIME"):
        return Busy(*fields)
    return Refused(*fields) if 400 <= status < 500 else ServerFailed(*fields)
