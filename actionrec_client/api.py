"""Clips over HTTP to a served model, and questions to the server that has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar, cast
from urllib.parse import quote

from actionrec.sampling import Selection

from . import video
from .address import parse
from .errors import BadReply, NoReply, Refused, ServerError, Unreachable
from .results import Result, ServedModel, Timeline
from .timeline.long_video import STRIDE_SECONDS, LongVideo, Progress
from .transport import Body, Transport

TIMEOUT_SECONDS = 120.0
"""For a request of one window, with all its retries."""
LONG_TIMEOUT_SECONDS = 300.0
"""For one of several: two tries, each longer than a worker may take (``responseTimeout``, 120 s)."""
_MANAGEMENT_SECONDS = 10.0
_POLL_SECONDS = 0.2

Option = str | int | float | None
Item = TypeVar("Item")


class ActionClient:
    """A served action recognition model.

        client = ActionClient("http://127.0.0.1:8080")
        print(client.classify("clip.mp4").label)

    It may be used by several threads at once. Requests that classify may safely be sent twice, so they are:
    after a cut connection, a reply that does not come, a worker that died, a full queue (503) or a proxy's 502,
    504 and 429, with exponential back-off and full jitter, until the deadline. What the request is at fault
    for is not.

    Args:
        url: ``http://host:8080``, or with the model: ``http://host:8080/predictions/motion``.
        model: which one; default: the only one that is served.
        token: sent as ``Authorization: Bearer``, over https, or to this machine.
        timeout: seconds for a request with all its retries; default: 120, or 300 where it asks for several
            windows.
        attempt_timeout: seconds for one try of them; default: half of `timeout`.
        management_url: default: the next port of the same host. Only `models`, `describe`, `scale` and
            `ready` need it, and finding out the model's name.
        insecure_token: send the token over plain http to another machine too, for all on the way to read.

    Raises:
        Refused: ``BAD_URL``, ``BAD_TOKEN``, ``INSECURE_TOKEN``.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        token: str | None = None,
        timeout: float | None = None,
        attempt_timeout: float | None = None,
        management_url: str | None = None,
        insecure_token: bool = False,
    ) -> None:
        self._place = parse(url, management_url)
        self._model = model or self._place.model
        self._timeout = timeout
        limit = TIMEOUT_SECONDS if timeout is None else timeout
        self._transport = Transport(token, limit, attempt_timeout, insecure_token=insecure_token)
        self._transport.bearer.check(self._place.inference)

    @property
    def model(self) -> str:
        """Name of the model; asks the server where it was not given.

        Raises:
            Refused: ``WHICH_MODEL``: there are several, or none.
            ServerError: the management address does not answer.
        """
        if self._model is None:
            names = [model.name for model in self.models()]
            if len(names) != 1:
                message = f"The server has {len(names)} models: {', '.join(names) or 'none'}."
                hint = "Name one with model." if names else "Start it with an archive."
                raise Refused("WHICH_MODEL", 0, message, hint)
            self._model = names[0]
        return self._model

    @property
    def url(self) -> str:
        """Where clips are sent."""
        return f"{self._place.inference}/predictions/{quote(self.model, safe='')}"

    def classify(self, clip: video.Video, *, timeout: float | None = None, **options: Option) -> Result:
        """Name the action in a clip.

        Args:
            clip: a path, the bytes of a video file, or `Frames`.
            timeout: seconds, in the place of the client's.
            options: ``top_k``, ``start_seconds``, ``end_seconds``, ``views``, ``crops``; None is as if it
                were not given.

        Raises:
            ServerError: there is no answer, and why.
        """
        return Result.from_dict(self.post(video.read(clip), options, timeout))

    def timeline(
        self,
        clip: video.Video,
        *,
        stride_seconds: float = STRIDE_SECONDS,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        crops: int = 1,
        top_k: int | None = None,
        timeout: float | None = None,
        in_flight: int = 2,
        on_progress: Progress | None = None,
    ) -> Timeline:
        """Say what happens when in a video of any length.

        What is more than a server takes in one request (64 windows, 100 MB) is cut into parts on key frames,
        by copying packets, and the replies are put together: the result is that of one request. Files whose
        packets cannot stand alone (AVI, bare streams) are sent whole for every part.

        Args:
            clip: a path, the bytes of a video file, or `Frames`. Of a path only some parts are in memory.
            stride_seconds: from one window to the next.
            start_seconds, end_seconds: from the first frame; default: all of it.
            crops: 1 or 3 a window.
            top_k: labels of each window; default: 5.
            timeout: seconds for each request with its retries, in the place of the client's.
            in_flight: parts at a time.
            on_progress: called with the windows that are done and those that there are, of a video in parts.

        Raises:
            ServerError: there is no answer, and why.
        """
        selection = Selection(start_seconds, end_seconds, crops=crops, stride_seconds=stride_seconds)
        return LongVideo(self, selection, top_k, timeout, in_flight, on_progress).timeline(clip)

    def post(self, data: bytes, options: Mapping[str, Option], timeout: float | None = None) -> dict[str, Any]:
        """Send a file and return the reply's JSON as it is."""
        form = {name: str(value) for name, value in options.items() if value is not None}
        limit = self._deadline(options) if timeout is None else timeout
        reply = self._transport.call("POST", self.url, Body(form, data), limit)
        if not isinstance(reply, dict):
            raise BadReply("BAD_REPLY", 200, f"The reply is of another kind of server: {str(reply)[:200]}.")
        return reply

    def _deadline(self, options: Mapping[str, Option]) -> float:
        if self._timeout is not None:
            return self._timeout
        several = options.get("stride_seconds") or windows_of(options) > 1
        return LONG_TIMEOUT_SECONDS if several else TIMEOUT_SECONDS

    def classify_many(
        self,
        clips: Iterable[Item],
        in_flight: int = 8,
        *,
        video_of: Callable[[Item], video.Video] = lambda item: cast(video.Video, item),
        **options: Option,
    ) -> Iterator[tuple[Item, Result | ServerError]]:
        """Classify clips, several at a time; each comes back with its result or error as soon as it has it.

        Files are read only when their turn comes, so memory holds at most `in_flight` of them however many
        there are, and an endless iterable is all right.

        Args:
            clips: as `classify` takes them.
            in_flight: requests at a time, at least 1.
            video_of: what to send of an item; default: the item itself.
            options: as of `classify`, the same for all.
        """
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, got {in_flight}")

        def one(clip: Item) -> Result | ServerError:
            try:
                return Result.from_dict(self.post(video.read(video_of(clip)), options))
            except ServerError as error:
                return error

        rest = iter(clips)
        pool = ThreadPoolExecutor(in_flight, thread_name_prefix="classify")
        try:
            waiting: dict[Future[Result | ServerError], Item] = {
                pool.submit(one, clip): clip for clip in islice(rest, in_flight)
            }
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    clip = waiting.pop(future)
                    waiting.update({pool.submit(one, following): following for following in islice(rest, 1)})
                    yield clip, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def models(self) -> list[ServedModel]:
        """What the server has loaded, by name.

        Raises:
            ServerError: the management address does not answer.
        """
        listed = self._manage("GET", "models?limit=1000")
        return [self._served(str(entry["modelName"])) for entry in listed["models"]]

    def describe(self) -> dict[str, Any]:
        """What the archive says about itself: recipe, labels' count, runtime, weights, parity, versions.

        Raises:
            ServerError: the management address does not answer, or the model is not there.
        """
        entry = self._manage("GET", f"models/{quote(self.model, safe='')}?customized=true")[0]
        described = entry.get("customizedMetadata")
        if not isinstance(described, dict):
            raise BadReply(
                "BAD_REPLY", 200, f"{self.model} does not describe itself.", "Is it of this project?"
            )
        return described

    def ready(self) -> bool:
        """Whether the model has its workers, and all of them are READY. That an answer comes is for
        `classify` to show.

        Raises:
            ServerError: the server does not answer, or the model is not there.
        """
        return self._served(self.model).ready

    def reach(self, timeout: float = _MANAGEMENT_SECONDS) -> None:
        """Try once whether anything answers at the address, whatever it says.

        Raises:
            Unreachable, NoReply: nothing does.
        """
        try:
            self._transport.once("GET", f"{self._place.inference}/ping", timeout_seconds=timeout)
        except (Unreachable, NoReply):
            raise
        except ServerError:
            return

    def scale(self, workers: int, *, timeout: float | None = None) -> None:
        """Set the number of worker processes; returns when so many are READY.

        Args:
            workers: how many, at least 0.
            timeout: seconds until they must be.

        Raises:
            ServerError: the server refuses, does not answer, or is not done in time.
        """
        limit = timeout or self._transport.timeout_seconds
        deadline = time.monotonic() + limit
        path = f"models/{quote(self.model, safe='')}?min_worker={workers}&max_worker={workers}&synchronous=true"
        self._manage("PUT", path, limit)
        while True:  # the call is synchronous, but a worker may still be on its way out
            now = self._served(self.model)
            if len(now.workers) == workers and all(status == "READY" for status in now.workers):
                return
            if time.monotonic() > deadline:
                states = ", ".join(now.workers) or "none"
                raise NoReply("DEADLINE", 0, f"After {limit:g} s the workers are: {states}.", "See its log.")
            time.sleep(_POLL_SECONDS)

    def _served(self, name: str) -> ServedModel:
        entry = self._manage("GET", f"models/{quote(name, safe='')}")[0]
        return ServedModel(
            name=str(entry["modelName"]),
            version=str(entry["modelVersion"]),
            workers=tuple(str(worker["status"]) for worker in entry["workers"]),
            least_workers=int(entry["minWorkers"]),
        )

    def _manage(self, method: str, path: str, timeout: float = _MANAGEMENT_SECONDS) -> Any:  # noqa: ANN401
        """Ask the management API, once: who asks about a server wants to know how it is now."""
        if self._place.management is None:
            raise Refused(
                "NO_MANAGEMENT",
                0,
                f"{self._place.inference} names no port, so its management address cannot be told from it.",
                "On the server's host give it (--management-url); elsewhere it is closed, so name the model.",
            )
        try:
            return self._transport.once(method, f"{self._place.management}/{path}", timeout_seconds=timeout)
        except Unreachable as error:
            hint = (
                f"{error.hint} The management address stays on the server's host; from another, name the model."
            )
            raise Unreachable(error.code, error.status, error.message, hint) from error


def windows_of(options: Mapping[str, Option]) -> int:
    """How many windows each request makes the model look at: views x crops."""
    return int(options.get("views") or 1) * int(options.get("crops") or 1)
