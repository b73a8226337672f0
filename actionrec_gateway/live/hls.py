"""Lists of segments (HLS, RFC 8216): which of them are to be read, and when.

    playlist of variants --the smallest that suits the model--> playlist of segments --in turn--> bytes

A list and all that it names are fetched as the address itself is: only from where the settings allow it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urljoin

import m3u8
from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS

from ..fetch import Fetcher
from ..fetch.place import Place
from .errors import no_stream

MARK = b"#EXTM3U"
"""What a list begins with."""
LIST_BYTES = 1 << 18
"""Of a list: four hours of segments of six seconds each."""
_FETCH_SECONDS = 60.0
"""For a list or a segment."""
_FROM_END = 3
"""Segments before the end of a live list at which it is begun: nearer ones may not be there in time (6.3.3)."""
_LEAST_WAIT_SECONDS = 0.5
_MOST_WAIT_SECONDS = 30.0
_SILENT_SECONDS = 60.0
"""A live list without a new segment for so long has broken off."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the video."""

    address: str
    header: str | None
    """Where the head of its file lies (``EXT-X-MAP``), if that is another file."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of several sizes of the same stream."""

    address: str
    edge: int
    """Pixels of the shorter edge; 0: not said."""
    bits_per_second: int


@dataclass(frozen=True, slots=True)
class Playlist:
    """A list at one moment."""

    segments: tuple[Segment, ...]
    first: int
    """Number of the first segment."""
    target_seconds: float
    """The longest that a segment lasts."""
    ends: bool
    """Whether no more will come."""
    variants: tuple[Variant, ...] = ()
    """Then there are no segments."""


def parse(text: str, place: Place) -> Playlist:
    """Read a list.

    Args:
        text: of the list.
        place: where it lay after redirects: addresses in it may be relative to that.

    Raises:
        ClipError: 422, it is none, or is of a kind that cannot be watched.
    """
    try:
        found = m3u8.loads(text)
        for one in found.segments:
            if one.key is not None and one.key.method not in (None, "NONE"):
                raise no_stream(place, "it is encrypted")
            if one.byterange or (one.init_section is not None and one.init_section.byterange):
                raise no_stream(place, "its segments are ranges of one file")
        return Playlist(
            segments=tuple(
                Segment(
                    urljoin(place.url, one.uri),
                    urljoin(place.url, one.init_section.uri) if one.init_section is not None else None,
                )
                for one in found.segments
                if one.uri
            ),
            first=int(found.media_sequence or 0),
            target_seconds=float(found.target_duration or 0),
            ends=bool(found.is_endlist),
            variants=tuple(
                Variant(
                    urljoin(place.url, one.uri),
                    min(one.stream_info.resolution or (0,)),
                    int(one.stream_info.bandwidth or 0),
                )
                for one in found.playlists
            ),
        )
    except ClipError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise no_stream(place, "its list cannot be read") from error


def suited(variants: tuple[Variant, ...], short_side: int) -> Variant:
    """The one that costs least among those that the model sees whole, or else the largest.

    Args:
        variants: one at least. Those without a size are taken only where none has one: they may be sound alone.
        short_side: of the model's frames, in pixels.
    """
    sized = [one for one in variants if one.edge] or list(variants)
    enough = [one for one in sized if one.edge >= short_side]
    if enough:
        return min(enough, key=lambda one: one.bits_per_second)
    return max(sized, key=lambda one: (one.edge, one.bits_per_second))


class Segments:
    """The segments of a stream, as they are due.

    Args:
        fetcher: that may reach them.
        place: of the list.
        playlist: as it is now; it has segments.
    """

    def __init__(self, fetcher: Fetcher, place: Place, playlist: Playlist) -> None:
        self._fetcher, self._place, self._playlist = fetcher, place, playlist
        self.ends = playlist.ends
        """Whether it was all there when it was opened."""

    @classmethod
    async def open(cls, fetcher: Fetcher, place: Place, short_side: int) -> Segments:
        """Read the list.

        Args:
            fetcher: that may reach it.
            place: of the list.
            short_side: of the model's frames, in pixels.

        Raises:
            ClipError: it cannot be fetched, or is no list that can be watched.
        """
        playlist = await _read(fetcher, place)
        if playlist.variants:
            place = fetcher.place(suited(playlist.variants, short_side).address)
            playlist = await _read(fetcher, place)
        if not playlist.segments:
            raise no_stream(place, "its list has no segment")
        return cls(fetcher, place, playlist)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Their bytes, the heads of their files where those change, until the list ends.

        Raises:
            ClipError: one cannot be fetched, or no new one comes.
        """
        due = self._playlist.first
        if not self.ends:
            due += max(0, len(self._playlist.segments) - _FROM_END)
        header: str | None = None
        came = time.monotonic()
        while True:
            playlist = self._playlist
            after = playlist.first + len(playlist.segments)
            if after < due - _FROM_END:
                raise no_stream(self._place, "its list began anew")
            due, fresh = max(due, playlist.first), after > due
            while due < after:
                segment = playlist.segments[due - playlist.first]
                if segment.header is not None and segment.header != header:
                    async for chunk in self._fetched(segment.header):
                        yield chunk
                header = segment.header
                async for chunk in self._fetched(segment.address):
                    yield chunk
                due, came = due + 1, time.monotonic()
            if playlist.ends:
                return
            if time.monotonic() - came > _SILENT_SECONDS:
                raise no_stream(self._place, f"no segment came in {_SILENT_SECONDS:g} s")
            # As RFC 8216, 6.3.4, has it: sooner where the list had nothing new.
            wait = playlist.target_seconds / (1 if fresh else 2)
            await asyncio.sleep(min(_MOST_WAIT_SECONDS, max(_LEAST_WAIT_SECONDS, wait)))
            self._playlist = await _read(self._fetcher, self._place)

    async def _fetched(self, address: str) -> AsyncGenerator[bytes, None]:
        place = self._fetcher.place(address)
        stream = self._fetcher.stream(place, DEFAULT_LIMITS.body_bytes, _FETCH_SECONDS)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield chunk


async def _read(fetcher: Fetcher, place: Place) -> Playlist:
    found, data = await fetcher.read(place, LIST_BYTES, _FETCH_SECONDS)
    return await asyncio.to_thread(parse, data.decode("utf-8", "replace"), found)
