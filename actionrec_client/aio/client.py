"""`ActionClient` for asyncio: the same methods, to be awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, Unpack, cast

from actionrec.sampling import Selection

from .. import video
from ..api import lacks
from ..errors import ServerError
from ..explanation import Explanation
from ..floats import Floats
from ..in_flight import Item
from ..options import Crops, EmbeddingForm, Explain, Options
from ..results import Result, Timeline, WindowEmbeddings
from ..timeline.long_video import STRIDE_SECONDS, LongVideo, Progress
from .endpoint import AsyncEndpoint


class AsyncActionClient(AsyncEndpoint):
    """A served action recognition model, for asyncio.

        async with AsyncActionClient("http://127.0.0.1:8080") as client:
            print((await client.classify("clip.mp4")).label)

    Arguments, methods and errors are those of `ActionClient`. It belongs to one event loop.
    """

    async def classify(
        self, clip: video.Video, *, timeout: float | None = None, **options: Unpack[Options]
    ) -> Result:
        """See `ActionClient.classify`.

        Raises:
            ServerError: there is no answer, and why.
        """
        data = await asyncio.to_thread(video.read, clip)
        return Result.from_dict(await self.post(data, options, timeout))

    async def classify_many(
        self,
        clips: Iterable[Item],
        in_flight: int = 8,
        *,
        video_of: Callable[[Item], video.Video] = lambda item: cast(video.Video, item),
        **options: Unpack[Options],
    ) -> AsyncIterator[tuple[Item, Result | ServerError]]:
        """See `ActionClient.classify_many`."""
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, got {in_flight}")

        async def one(clip: Item) -> tuple[Item, Result | ServerError]:
            try:
                return clip, await self.classify(video_of(clip), **options)
            except ServerError as error:
                return clip, error

        waiting: set[asyncio.Task[tuple[Item, Result | ServerError]]] = set()
        try:
            for clip in clips:
                waiting.add(asyncio.create_task(one(clip)))
                if len(waiting) >= in_flight:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
            for finished in asyncio.as_completed(waiting):
                yield await finished
        finally:
            for task in waiting:
                task.cancel()

    async def timeline(
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
        """See `ActionClient.timeline`.

        Raises:
            ServerError: there is no answer, and why.
        """
        selection = Selection(start_seconds, end_seconds, crops=crops, stride_seconds=stride_seconds)
        loop = asyncio.get_running_loop()
        sender = _FromThreads(self, loop)

        def progress(done: int, total: int) -> None:
            if on_progress:
                loop.call_soon_threadsafe(on_progress, done, total)

        long_video = LongVideo(sender, selection, top_k, timeout, in_flight, progress, embedding)
        try:
            # Reading and cutting the file would hold the loop.
            return await asyncio.to_thread(long_video.timeline, clip)
        finally:
            sender.stop()

    async def embed(
        self,
        clip: video.Video,
        *,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        views: int | None = None,
        crops: Crops | None = None,
        timeout: float | None = None,
    ) -> Floats:
        """See `ActionClient.embed`.

        Raises:
            ServerError: there is no answer, and why.
        """
        options = Options(
            top_k=1,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            views=views,
            crops=crops,
            embedding="base64",
        )
        found = (await self.classify(clip, timeout=timeout, **options)).embedding
        if found is None:
            raise lacks("embedding")
        return found

    async def embed_windows(
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
        """See `ActionClient.embed_windows`.

        Raises:
            ServerError: there is no answer, and why.
        """
        found = await self.timeline(
            clip,
            stride_seconds=stride_seconds,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            crops=crops,
            top_k=1,
            embedding="base64",
            timeout=timeout,
            in_flight=in_flight,
        )
        if not len(found.embeddings.vectors):
            raise lacks("embedding")
        return found.embeddings

    async def explain(
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
        """See `ActionClient.explain`.

        Raises:
            ServerError: there is no answer, and why.
        """
        wanted: Explain = True if label is None else label
        options = Options(
            start_seconds=start_seconds, end_seconds=end_seconds, views=views, crops=crops, explain=wanted
        )
        found = (await self.classify(clip, timeout=timeout, **options)).explanation
        if found is None:
            raise lacks("explanation")
        return found


class _FromThreads:
    """A `Sender` for threads, whose requests go through the event loop.

    Args:
        client: that sends them.
        loop: its own.
    """

    def __init__(self, client: AsyncActionClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let no more requests through."""
        self._stopped.set()

    def post(self, data: bytes, options: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """See `Sender.post`."""
        return self._wait(self._client.post(data, options, timeout))

    def describe(self) -> dict[str, Any]:
        """See `Sender.describe`."""
        return self._wait(self._client.describe())

    def _wait(self, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        if self._stopped.is_set():
            work.close()
            raise asyncio.CancelledError
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
