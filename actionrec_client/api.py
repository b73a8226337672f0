"""Clips over HTTP to a served model, and questions to the server that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

from actionrec.sampling import Selection

from . import video
from .address import parse
from .errors import BadReply, NoReply, Refused, ServerError, Unreachable
from .in_flight import Item, as_they_come
from .management import ANSWER_SECONDS, Management
from .options import Crops, Options, views_of
from .results import Result, ServedModel, Timeline
from .timeline.long_video import STRIDE_SECONDS, LongVideo, Progress
from .transport import Body, Transport

TIMEOUT_SECONDS = 120.0
"""For a request of one window, with all its retries."""
LONG_TIMEOUT_SECONDS = 300.0
"""For one of several: two tries, each longer than a worker may take (``responseTimeout``, 120 s)."""


class ActionClient:
    """A served action recognition model.

        client = ActionClient("http://127.0.0.1:8080")
        print(client.classify("clip.mp4").label)

    It may be used by several threads at once. A request that classifies can be sent twice without harm. So it
    is sent again after a cut connection, a reply that does not come, a worker that died, a full queue (503) or
    a proxy's 502, 504 and 429, with exponential back-off and full jitter, until the deadline. It is not sent
    again after an error of its own, such as a file that is no video.

    Args:
        url: ``http://host:8080``, or with the model: ``http://host:8080/predictions/motion``.
        model: which one; default: the only one that is served.
        token: sent as ``Authorization: Bearer``, over https, or to this machine.
        timeout: seconds for a request with all its retries, above 0 and at most 86400; default: 120, or 300
            where it asks for several windows.
        attempt_timeout: seconds for one of the tries; default: half of `timeout`.
        management_url: default: the next port of the same host. Only `models`, `describe`, `scale` and
            `ready` need it, and finding out the model's name.
        insecure_token: send the token over plain http to other machines too, where everybody on the way can
            read it.

    Raises:
        Refused: ``BAD_URL``, ``BAD_TOKEN``, ``INSECURE_TOKEN``.
        ValueError: a time limit is out of range.
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
        place = parse(url, management_url)
        self._inference = place.inference
        self._model = model or place.model
        self._timeout = timeout
        limit = TIMEOUT_SECONDS if timeout is None else timeout
        self._transport = Transport(token, limit, attempt_timeout, insecure_token=insecure_token)
        self._transport.bearer.check(place.inference)
        self._management = Management(self._transport, place.management, place.inference)

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
        return f"{self._inference}/predictions/{quote(self.model, safe='')}"

    def classify(
        self,
        clip: video.Video,
        *,
        top_k: int | None = None,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        views: int | None = None,
        crops: Crops | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Name the action in a clip.

        Args:
            clip: a path, the bytes of a video file, or `Frames`.
            top_k: labels in the result, best first: 1 to as many as the model has. Default: 5, or all where it
                has fewer.
            start_seconds: where to begin to look, in seconds from the clip's first frame: 0 to 86400.
                Default: 0.
            end_seconds: where to end, in seconds from the clip's first frame: above `start_seconds`, at most
                86400. Of a longer range than one window its middle is taken, of a shorter one all frames.
                Default: one window after the start; with `views` above 1 the clip's end.
            views: windows that are spread evenly over the range, whose scores are averaged: 1 to 64, with three
                crops 1 to 21. Default: 1.
            crops: squares of each frame: 1 is the centre, 3 are the centre and both ends of the longer side,
                averaged too. Default: 1.
            timeout: seconds for the request with all its retries. Default: the client's.

        Raises:
            ServerError: there is no answer, and why.
        """
        options = Options(
            top_k=top_k, start_seconds=start_seconds, end_seconds=end_seconds, views=views, crops=crops
        )
        return Result.from_dict(self.post(video.read(clip), options, timeout))

    def classify_many(
        self,
        clips: Iterable[Item],
        in_flight: int = 8,
        *,
        video_of: Callable[[Item], video.Video] = lambda item: cast(video.Video, item),
        top_k: int | None = None,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        views: int | None = None,
        crops: Crops | None = None,
    ) -> Iterator[tuple[Item, Result | ServerError]]:
        """Classify clips, several at a time; each comes back with its result or error as soon as it has it.

        A file is read only when its turn comes. So at most `in_flight` of them are in memory however many there
        are, and `clips` may be endless.

        Args:
            clips: as `classify` takes them.
            in_flight: requests at a time, at least 1.
            video_of: what to send of an item; default: the item itself.
            top_k, start_seconds, end_seconds, views, crops: as of `classify`, the same for all clips.
        """
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, got {in_flight}")
        options = Options(
            top_k=top_k, start_seconds=start_seconds, end_seconds=end_seconds, views=views, crops=crops
        )

        def one(clip: Item) -> Result | ServerError:
            try:
                return self.classify(video_of(clip), **options)
            except ServerError as error:
                return error

        return as_they_come(one, clips, in_flight)

    def timeline(
        self,
        clip: video.Video,
        *,
        stride_seconds: float = STRIDE_SECONDS,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        crops: Crops = 1,
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
            stride_seconds: from the start of one window to the next one's: 0.1 to 86400.
            start_seconds: where to begin to look, in seconds from the first frame: 0 to 86400.
            end_seconds: where to end, in seconds from the first frame: above `start_seconds`, at most 86400.
                Default: the video's end.
            crops: squares of each frame: 1 is the centre, 3 are the centre and both ends of the longer side,
                averaged.
            top_k: labels of each window, best first: 1 to as many as the model has. Default: 5, or all where it
                has fewer.
            timeout: seconds for each request with its retries. Default: the client's.
            in_flight: parts at a time, at least 1.
            on_progress: called with the windows that are done and those that there are, of a video in parts.

        Raises:
            ServerError: there is no answer, and why.
        """
        selection = Selection(start_seconds, end_seconds, crops=crops, stride_seconds=stride_seconds)
        return LongVideo(self, selection, top_k, timeout, in_flight, on_progress).timeline(clip)

    def post(self, data: bytes, options: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Send a file and return the reply's JSON as it is.

        Args:
            data: of a video file.
            options: by the server's names for them; those that are None are left out.
            timeout: seconds for the request with all its retries. Default: the client's.

        Raises:
            ServerError: there is no answer, and why.
        """
        form = {name: str(value) for name, value in options.items() if value is not None}
        limit = self._deadline(options) if timeout is None else timeout
        reply = self._transport.call("POST", self.url, Body(form, data), limit)
        if not isinstance(reply, dict):
            raise BadReply("BAD_REPLY", 200, f"The reply is of another kind of server: {str(reply)[:200]}.")
        return reply

    def _deadline(self, options: Mapping[str, Any]) -> float:
        if self._timeout is not None:
            return self._timeout
        several = options.get("stride_seconds") or views_of(options) > 1
        return LONG_TIMEOUT_SECONDS if several else TIMEOUT_SECONDS

    def models(self) -> list[ServedModel]:
        """What the server has loaded, by name.

        Raises:
            ServerError: the management address does not answer.
        """
        return self._management.models()

    def describe(self) -> dict[str, Any]:
        """What the archive says about itself, as it came: recipe, labels' count, runtime, weights, parity,
        versions. `Description.from_dict` makes fields of it.

        Raises:
            ServerError: the management address does not answer, or the model is not there.
        """
        return self._management.describe(self.model)

    def ready(self) -> bool:
        """Whether the model has all its workers, and every one is READY. Only `classify` shows that they
        answer.

        Raises:
            ServerError: the server does not answer, or the model is not there.
        """
        return self._management.model(self.model).ready

    def reach(self, timeout: float = ANSWER_SECONDS) -> None:
        """Try once whether anything answers at the address, whatever it says.

        Args:
            timeout: seconds.

        Raises:
            Unreachable, NoReply: nothing does.
        """
        try:
            self._transport.once("GET", f"{self._inference}/ping", timeout_seconds=timeout)
        except (Unreachable, NoReply):
            raise
        except ServerError:
            return

    def scale(self, workers: int, *, timeout: float | None = None) -> None:
        """Set the number of worker processes; returns when so many are READY.

        Args:
            workers: how many, at least 0.
            timeout: seconds until they must be READY; default: the client's.

        Raises:
            ServerError: the server refuses, does not answer, or is not done in time.
        """
        self._management.scale(self.model, workers, timeout or self._transport.timeout_seconds)
