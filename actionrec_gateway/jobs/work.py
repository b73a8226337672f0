"""The work on one job: get the video, ask the engine, put the answers together."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from actionrec.errors import ClipError
from actionrec.sampling import Selection

from actionrec_client.errors import Refused, ServerError
from actionrec_client.timeline.long_video import LongVideo

from ..engine import Engine
from ..fetch import Fetcher
from .asker import Asker, Stop, Stopped
from .cutter import CutterProcess
from .files import Files
from .ledger import Ledger
from .states import Job

logger = logging.getLogger(__name__)

FETCH_SECONDS = 6 * 3600.0
"""For a video of a job by address."""
_FETCH_TRIES = 6
_PARTS_AT_ONCE = 2
_PROGRESS_SECONDS = 0.5
"""Between two notes of how far a job is."""
_FETCHING = "The video is being fetched."
_NO_ROOM = "There is no room for the video; the job goes on when there is."
_NO_ROOM_SECONDS = 30.0


class Work:
    """One job on this gateway. `stop` may be called by any thread.

    Args:
        job: as the ledger gave it.
        engine: that answers.
        fetcher: gets videos by address.
        loop: on which engine and fetcher live.
        ledger: where all is written down.
        files: where the videos are.
        most_bytes: of a video.
    """

    def __init__(
        self,
        job: Job,
        engine: Engine,
        fetcher: Fetcher,
        loop: asyncio.AbstractEventLoop,
        ledger: Ledger,
        files: Files,
        most_bytes: int,
    ) -> None:
        self._job, self._fetcher, self._loop, self._ledger = job, fetcher, loop, ledger
        self._files, self._most_bytes = files, most_bytes
        self._stop = Stop()
        self._asker = Asker(job, engine, loop, ledger, self._stop)
        self._cutter: CutterProcess | None = None
        self._noted = 0.0
        self._before: int | None = None

    def stop(self) -> None:
        """End the work; what is answered stays."""
        self._stop.set()
        if (cutter := self._cutter) is not None:
            cutter.kill()

    def run(self) -> None:
        """Do the work, and write its end down.

        Raises:
            Stopped: it was stopped.
        """
        job = self._job
        try:
            result = self._result()
            self._stop.patiently(lambda: self._ledger.done(job.id, result))
        except Stopped:
            raise
        except (ClipError, ServerError) as error:
            self._stop.check()  # it may come of a process that was ended
            self._fail(error.to_dict())
        except Exception:
            self._stop.check()
            logger.exception("The work on job %s failed", job.id)
            self._fail(
                {
                    "code": "INTERNAL",
                    "status": 500,
                    "message": "The job could not be done.",
                    "hint": "The gateway's log says more.",
                }
            )
        finally:
            self._stop.set()  # parts that are still being asked for are of no use

    def _fail(self, error: Mapping[str, Any]) -> None:
        self._stop.patiently(lambda: self._ledger.failed(self._job.id, error))

    def _result(self) -> dict[str, Any]:
        path = self._video()
        options = dict(self._job.options)
        stride = options.pop("stride_seconds", None)
        if stride is None:
            return self._asker.post(path.read_bytes(), options)
        selection = Selection(
            float(options.get("start_seconds") or 0.0),
            options.get("end_seconds"),
            crops=int(options.get("crops") or 1),
            stride_seconds=float(stride),
        )
        self._cutter = cutter = CutterProcess(path)
        try:
            self._stop.check()  # it may have been told to stop before there was a process to end
            long_video = LongVideo(
                self._asker,
                selection,
                options.get("top_k"),
                None,
                _PARTS_AT_ONCE,
                self._progress,
                options.get("embedding"),
                cutter=cutter,
            )
            return dict(long_video.timeline(path).raw)
        finally:
            cutter.close()

    def _progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        since = self._asker.asked_since
        if since is not None and self._before is None:
            self._before = done  # what was answered in an earlier life says nothing of the pace of this one
        if done < total and done and now - self._noted < _PROGRESS_SECONDS:
            return
        self._noted = now
        left = None
        if since is not None and self._before is not None and done > self._before:
            left = (total - done) * (now - since) / (done - self._before)
        self._stop.patiently(lambda: self._ledger.progress(self._job.id, done, total, left))

    def _video(self) -> Path:
        """The video's file; fetched where it is not there yet.

        Raises:
            ClipError: it cannot be had.
        """
        path = self._files.path(self._job.id)
        if path.exists():
            return path
        url = self._job.url or self._files.secret_url(self._job.id)
        if url is None:
            hint = "Send the video again. Gateways that share jobs have to share their run_dir too."
            raise ClipError("VIDEO_LOST", 410, "The video that was sent is not there any more.", hint)
        self._stop.patiently(lambda: self._ledger.note(self._job.id, _FETCHING))
        tries = 0
        while not path.exists():
            try:
                self._stop.on_loop(self._loop, self._fetch(url))
            except ClipError as error:
                tries += 1
                if error.status not in (502, 504) or tries >= _FETCH_TRIES:
                    raise Refused(error.code, error.status, error.message, error.hint) from None
                self._stop.wait(2.0**tries / 2)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._stop.patiently(lambda: self._ledger.note(self._job.id, _NO_ROOM))
                self._stop.wait(_NO_ROOM_SECONDS)
        self._stop.patiently(lambda: self._ledger.note(self._job.id, None))
        return path

    async def _fetch(self, url: str) -> None:
        place = self._fetcher.place(url)
        with self._files.new(self._job.id) as new:
            async with aclosing(self._fetcher.stream(place, self._most_bytes, FETCH_SECONDS)) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(new.write, chunk)
            await asyncio.to_thread(new.keep)
