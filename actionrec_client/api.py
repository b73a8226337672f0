"""Clips over HTTP to a served model, and questions to the server that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

from actionrec.sampling import Selection

from . import video
from .endpoint import Endpoint
from .errors import BadReply, ServerError
from .explanation import Explanation
from .floats import Floats
from .in_flight import Item, as_they_come
from .options import Crops, EmbeddingForm, Explain, Options
from .results import Result, Timeline, WindowEmbeddings
from .timeline.long_video import STRIDE_SECONDS, LongVideo, Progress


class ActionClient(Endpoint):
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

    def classify(
        self,
        clip: video.Video,
        *,
        top_k: int | None = None,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        views: int | None = None,
        crops: Crops | None = None,
        embedding: EmbeddingForm | None = None,
        explain: Explain | None = None,
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
            embedding: how the reply writes `Result.embedding`: ``json`` or ``base64``. Default: it has none.
            explain: the label of `Result.explanation`; True is the best one. It may have 8 views, and needs a
                model whose head is linear, as a SlowFast's is. Default: it has none.
            timeout: seconds for the request with all its retries. Default: the client's.

        Raises:
            ServerError: there is no answer, and why.
        """
        options = Options(
            top_k=top_k,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            views=views,
            crops=crops,
            embedding=embedding,
            explain=explain,
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
        embedding: EmbeddingForm | None = None,
        explain: Explain | None = None,
    ) -> Iterator[tuple[Item, Result | ServerError]]:
        """Classify clips, several at a time; each comes back with its result or error as soon as it has it.

        A file is read only when its turn comes. So at most `in_flight` of them are in memory however many there
        are, and `clips` may be endless.

        Args:
            clips: as `classify` takes them.
            in_flight: requests at a time, at least 1.
            video_of: what to send of an item; default: the item itself.
            top_k, start_seconds, end_seconds, views, crops, embedding, explain: as of `classify`, the same for
                all clips.
        """
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, got {in_flight}")
        options = Options(
            top_k=top_k,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            views=views,
            crops=crops,
            embedding=embedding,
            explain=explain,
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
        embedding: EmbeddingForm | None = None,
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
            embedding: how the reply writes the embedding of each window: ``json`` or ``base64``. Default: it
                has none.
            timeout: seconds for each request with its retries. Default: the client's.
            in_flight: parts at a time, at least 1.
            on_progress: called with the windows that are done and those that there are, of a video in parts.

        Raises:
            ServerError: there is no answer, and why.
        """
        selection = Selection(start_seconds, end_seconds, crops=crops, stride_seconds=stride_seconds)
        return LongVideo(self, selection, top_k, timeout, in_flight, on_progress, embedding).timeline(clip)

    def embed(
        self,
        clip: video.Video,
        *,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        views: int | None = None,
        crops: Crops | None = None,
        timeout: float | None = None,
    ) -> Floats:
        """A clip as the numbers that the model's last layer gets: clips that the model finds alike have vectors
        that point the same way.

        Args:
            clip, start_seconds, end_seconds, views, crops, timeout: as of `classify`.

        Returns:
            float32 [features], the mean over the views: 2304 numbers of SlowFast R50.

        Raises:
            ServerError: there is no answer, and why.
        """
        found = self.classify(
            clip,
            top_k=1,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            views=views,
            crops=crops,
            embedding="base64",
            timeout=timeout,
        ).embedding
        if found is None:
            raise lacks("embedding")
        return found

    def embed_windows(
        self,
        clip: video.Video,
        *,
        stride_seconds: float = STRIDE_SECONDS,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        crops: Crops = 1,
        timeout: float | None = None,
        in_flight: int = 2,
    ) -> WindowEmbeddings:
        """The embedding of each window of a video of any length; windows that cannot be decoded have none.

        Args:
            clip, stride_seconds, start_seconds, end_seconds, crops, timeout, in_flight: as of `timeline`.

        Raises:
            ServerError: there is no answer, and why.
        """
        found = self.timeline(
            clip,
            stride_seconds=stride_seconds,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            crops=crops,
            top_k=1,
            embedding="base64",
            timeout=timeout,
            in_flight=in_flight,
        ).embeddings
        if not len(found.vectors):
            raise lacks("embedding")
        return found

    def explain(
        self,
        clip: video.Video,
        label: str | None = None,
        *,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        views: int | None = None,
        crops: Crops | None = None,
        timeout: float | None = None,
    ) -> Explanation:
        """Why the model says a label: what each place and time adds to it.

        Args:
            clip, start_seconds, end_seconds, views, crops, timeout: as of `classify`.
            label: which one. Default: the best one.

        Raises:
            ServerError: there is no answer, and why.
        """
        found = self.classify(
            clip,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            views=views,
            crops=crops,
            explain=True if label is None else label,
            timeout=timeout,
        ).explanation
        if found is None:
            raise lacks("explanation")
        return found


def lacks(field: str) -> BadReply:
    """The error for a reply without what was asked for."""
    message = f"The reply has no {field}."
    return BadReply("BAD_REPLY", 200, message, "Is the server of an older version of this project?")
