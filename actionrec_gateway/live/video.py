"""The bytes of a stream by its address, whether it is one file without an end or a list of segments."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ..fetch import Fetcher
from ..fetch.place import Place
from . import hls
from .kind import Kind

_MOST_BYTES = 1 << 44


async def video(fetcher: Fetcher, place: Place, seconds: float, short_side: int) -> AsyncGenerator[bytes, None]:
    """A `Kind`, then the bytes of the stream. Close it (`contextlib.aclosing`) where it is not read to its end.

    Args:
        fetcher: that may reach it.
        place: where it lies.
        seconds: for all of it, if it is one file.
        short_side: of the model's frames, in pixels: where there are several sizes, no more is fetched.

    Raises:
        ClipError: it cannot be fetched, or not watched.
    """
    async with aclosing(fetcher.stream(place, _MOST_BYTES, seconds)) as chunks:
        head = b""
        async for chunk in chunks:
            head += chunk
            if len(head) >= len(hls.MARK):
                break
        if not head.startswith(hls.MARK):
            yield Kind.PLAIN.value
            yield head
            async for chunk in chunks:
                yield chunk
            return
    segments = await hls.Segments.open(fetcher, place, short_side)
    yield (Kind.RECORDED if segments.ends else Kind.LIVE).value
    async with aclosing(segments.chunks()) as chunks:
        async for chunk in chunks:
            yield chunk
