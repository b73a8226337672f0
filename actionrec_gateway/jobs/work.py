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
from actionrec.limits import DEFAULT_LIMITS
from actionrec.sampling import Selection

from actionrec_client.description import Description
from actionrec_client.errors import Refused, ServerError
from actionrec_client.timeline.long_video import LongVideo, SoFar
from actionrec_client.timeline.remux import NotCuttable
from actionrec_client.timeline.sent import Cutter

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
_SOME_WINDOW_SECONDS = 10.0
"""Longer than any window: what is cut out of a video for a model that nobody describes."""
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
        self._so_far: SoFar | None = None
        self._noted = 0.0
        self._before: int | None = None

    def stop(self) -> None:
        """End the work; what is answered stays."""
        self._stop.set()
        if (cutter := self._cutter) is not None:
            cutter.kill()

    def so_far(self) -> dict[str, Any] | None:
        """The reply of the parts that are done; None: there is none yet."""
        try:
            return None if self._so_far is None else self._so_far()
        except Refused:  # none of these windows could be decoded; later ones may
            return None

    def run(self) -> None:
        """Do the work, and write its end down.

        Raises:
            Stopped: it was stopped.
        """
        job = self._job
        try:
            result = self._result()
            self._stop.patiently(lambda: self._ledger.done(job.id, result))
            logger.info("Job %s is done", job.id)
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
        logger.info("Job %s failed: %s", self._job.id, error["code"])
        self._stop.patiently(lambda: self._ledger.failed(self._job.id, error))

    def _result(self) -> dict[str, Any]:
        path = self._video()
        if self._job.is_timeline:
            return self._cut(path)
        windows = int(self._job.options.get("views") or 1)
        self._progress(0, windows)
        small = path.stat().st_size <= DEFAULT_LIMITS.body_bytes
        result = self._asker.post(path.read_bytes(), self._job.options) if small else self._cut(path)
        self._progress(windows, windows)
        return result

    def _cut(self, path: Path) -> dict[str, Any]:
        """The result from parts of the video, which a process of its own cuts out."""
        self._cutter = cutter = CutterProcess(path)
        try:
            self._stop.check()  # it may have been told to stop before there was a process to end
            return self._timeline(path, cutter) if self._job.is_timeline else self._clip(path, cutter)
        finally:
            cutter.close()

    def _timeline(self, path: Path, cutter: Cutter) -> dict[str, Any]:
        options = self._job.options
        selection = Selection(
            float(options.get("start_seconds") or 0.0),
            options.get("end_seconds"),
            crops=int(options.get("crops") or 1),
            stride_seconds=float(options["stride_seconds"]),
        )
        long_video = LongVideo(
            self._asker,
            selection,
            options.get("top_k"),
            None,
            _PARTS_AT_ONCE,
            self._progress,
            options.get("embedding"),
            cutter=cutter,
            on_part=self._part,
        )
        return dict(long_video.timeline(path).raw)

    def _clip(self, path: Path, cutter: Cutter) -> dict[str, Any]:
        """One answer about a range of a video that is too large for a request: the range is cut out of it."""
        options = dict(self._job.options)
        start = float(options.get("start_seconds") or 0.0)
        try:
            window = Description.from_dict(self._asker.describe()).spec.window_seconds
        except ServerError:
            window = _SOME_WINDOW_SECONDS
        try:
            index = cutter.cuttable(path)
            end = options.get("end_seconds")
            if end is None:
                end = index.seconds if int(options.get("views") or 1) > 1 else start + window
            part = index.part(start, float(end) + window)
        except NotCuttable as error:
            raise _too_large(f"and {error}") from error
        if len(part.data) > DEFAULT_LIMITS.body_bytes:
            raise _too_large("and so has the part that is asked for")
        options["start_seconds"] = max(0.0, start - part.offset_seconds)
        if "end_seconds" in options:
            options["end_seconds"] = float(options["end_seconds"]) - part.offset_seconds
        reply = self._asker.post(part.data, options)
        clip = dict(reply["clip"])
        for name in ("start_seconds", "end_seconds"):
            clip[name] = round(clip[name] + part.offset_seconds, 3)
        return {**reply, "clip": clip}

    def _part(self, so_far: SoFar) -> None:
        self._so_far = so_far

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


def _too_large(why: str) -> Refused:
    message = f"The video has more than the {DEFAULT_LIMITS.body_bytes:,} bytes of a request, {why}."
    return Refused("TOO_LARGE", 413, message, "Ask for a shorter range, or for a timeline (stride_seconds=1).")
