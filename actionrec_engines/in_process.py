"""The core in the process that asks it: rows of many callers take turns in calls of `Service.answer`.

    async with Turns.load(Archive.open(Path("motion.mar"))) as motion:
        reply = await motion.answer(Row({"body": video}))

``python -m actionrec_engines.in_process motion.mar --port 8000`` is the gateway and the model in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn
from actionrec.refusals import refuse
from actionrec.service import Reply, Row, Service

from actionrec_gateway.app import create_app
from actionrec_gateway.errors import error_body
from actionrec_gateway.observe import logs
from actionrec_gateway.settings import Settings

from .archive import Archive
from .rows import BODY_BYTES, RowEngine

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 120
"""For what is in flight, as long as a call may take."""


class Turns:
    """A model whose rows take turns: one call at a time has what waits, up to so many rows.

    Use it in an ``async with`` statement, or close it.

    Args:
        service: the loaded model.
        rows: the most rows of one call.
        waiting: rows that may wait; more are refused.
    """

    def __init__(self, service: Service, rows: int, waiting: int) -> None:
        self._service, self._rows, self._most = service, rows, waiting
        self._queue: deque[tuple[Row, asyncio.Future[Reply]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None
        service.others_wait = lambda: bool(self._queue)

    @classmethod
    def load(cls, archive: Archive, device: str = "cpu") -> Turns:
        """The model of an archive, loaded and warm.

        Raises:
            ValueError, RuntimeError: it does not fit this host.
        """
        return cls(archive.load(device), archive.rows, archive.waiting)

    async def answer(self, row: Row) -> Reply:
        """See `rows.Model.answer`."""
        if len(self._queue) >= self._most:
            raise refuse("UNAVAILABLE")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._queue.append((row, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer_all())
        return await future

    async def describe(self) -> dict[str, Any]:
        """See `rows.Model.describe`."""
        return self._service.classifier.describe()

    @property
    def waiting(self) -> int:
        """See `rows.Model.waiting`."""
        return len(self._queue)

    def close(self) -> None:
        """End the thread and the model's child processes."""
        self._thread.shutdown(cancel_futures=True)
        self._service.close()

    async def __aenter__(self) -> Turns:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def _answer_all(self) -> None:
        """Answer until nobody waits."""
        loop = asyncio.get_running_loop()
        while self._queue:
            taken = [self._queue.popleft() for _ in range(min(self._rows, len(self._queue)))]
            wanted = [(row, future) for row, future in taken if not future.done()]  # and not gone meanwhile
            if not wanted:
                continue
            rows = [row for row, _ in wanted]
            try:
                replies = await loop.run_in_executor(self._thread, self._service.answer, rows)
            except Exception:  # which `Service.answer` promises not to raise: nobody may wait for ever
                logger.exception("A call failed")
                replies = [_failed(row) for row in rows]
            for (_, future), reply in zip(wanted, replies, strict=True):
                if not future.done():
                    future.set_result(reply)


def _failed(row: Row) -> Reply:
    error = refuse("INTERNAL")
    return Reply(error.status, error_body(error, row.request_id))


def add_archives(parser: argparse.ArgumentParser) -> None:
    """Add what `loaded` needs to a command line."""
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="a file of `make archive`")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")


def loaded(given: argparse.Namespace) -> dict[str, Turns]:
    """The models of a command line's archives, by their names.

    Raises:
        OSError, ValueError, RuntimeError: one is no archive, or does not fit this host.
    """
    archives = [Archive.open(path) for path in given.archives]
    return {archive.manifest.name: Turns.load(archive, given.device) for archive in archives}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve archives in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m actionrec_engines.in_process", description=main.__doc__)
    add_archives(parser)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--run-dir", type=Path, default=Path("run"), help="of jobs and uploads")
    given = parser.parse_args(arguments)
    logs.start(None)
    try:
        models = loaded(given)
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    settings = Settings(body_bytes=BODY_BYTES, host=given.host, port=given.port, run_dir=given.run_dir)
    try:
        uvicorn.run(
            create_app(settings, RowEngine(models)),
            host=given.host,
            port=given.port,
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    finally:
        for model in models.values():
            model.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
