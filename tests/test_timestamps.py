"""Promise: no timestamp, however absurd, costs more than its own file's answer, and that answer says so."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable

import av
import numpy as np
import pytest
from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS, Limits
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec
from actionrec.video.decode import Decoded, decode, windows

from testing.media import encode, textured_frames
from tests.hostile_files import edit, frames, good, leaping, stamped

SPEC = ClipSpec(short_side=64, crop=64)
LARGEST = 2**63 - 1
COUNT = len(frames())


ODD: dict[str, Callable[[int], int]] = {
    "up to the largest": lambda n: LARGEST - 600 - COUNT + n,
    "from the smallest": lambda n: -LARGEST + n,
    "around half of it": lambda n: 2**62 - 40 + n,
    "negative": lambda n: n - 10_000,
    "from end to end": lambda n: (-1) ** n * (2**62 - n),
    "a leap to the end": lambda n: n if n < 60 else 2**62 + n,
    "falling": lambda n: 2**62 - n,
    "nearly all the same": lambda n: 2**62 - n // (COUNT - 1),
    "far apart": lambda n: n * 2**56,
    "one that is far back": lambda n: -LARGEST if n == 40 else n,
}
SELECTIONS = (
    Selection(),
    Selection(1.0),
    Selection(86_400.0),
    Selection(0.0, 86_400.0),
    Selection(views=3),
    Selection(stride_seconds=0.5),
    Selection(1.0, 86_400.0, stride_seconds=86_400.0),
)


def answer(video: bytes, selection: Selection) -> list[Decoded]:
    """The windows, or none where they are refused with a 4xx."""
    try:
        return list(windows(video, SPEC, selection, DEFAULT_LIMITS))
    except ClipError as error:
        if not 400 <= error.status < 500:
            raise
        return []


@pytest.mark.parametrize("ticks", [1, 30, 2**31 - 1])
@pytest.mark.parametrize("name", ODD)
def test_any_timestamps(name: str, ticks: int) -> None:
    """Whatever is asked, there is a result or a 4xx, and no arithmetic overflows."""
    video = stamped(ODD[name], ticks)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for selection in SELECTIONS:
            for clip in answer(video, selection):
                assert 0 <= clip.start_seconds <= clip.end_seconds <= 2 * DEFAULT_LIMITS.seconds
                assert np.isfinite(clip.source_fps)


def test_a_clip_that_is_longer_than_a_day() -> None:
    """Where the length matters it is refused, with a way out; its first window needs no length."""
    video = leaping()
    for selection in (Selection(views=2), Selection(stride_seconds=1), Selection(0, 9)):
        with pytest.raises(ClipError) as caught:
            list(windows(video, SPEC, selection, DEFAULT_LIMITS))
        assert (caught.value.code, caught.value.status) == ("BAD_TIMESTAMPS", 422)
        assert "86400 s" in caught.value.message
        assert "setpts" in caught.value.hint
    assert decode(video, SPEC).source_frames == 60


def test_the_limit_of_seconds() -> None:
    """A clip may be as long as the limit, and no longer."""
    video = encode(textured_frames(64, 64, 90))
    assert len(list(windows(video, SPEC, Selection(views=2), Limits(seconds=3.0)))) == 2
    with pytest.raises(ClipError, match="BAD_TIMESTAMPS"):
        list(windows(video, SPEC, Selection(views=2), Limits(seconds=2.9)))


def test_edit_lists_of_any_time() -> None:
    """An MP4 may say that it begins anywhere in 64 bits."""
    for start in (LARGEST, -LARGEST, 2**62, -1):
        elst = struct.pack(">IIqqI", 1 << 24, 1, 10**6, start, 1 << 16)
        video = edit(good(), "moov/trak/edts/elst", lambda _, elst=elst: elst)  # type: ignore[misc]
        for selection in SELECTIONS:
            for clip in answer(video, selection):
                assert clip.end_seconds <= 2 * DEFAULT_LIMITS.seconds


def test_the_files_are_what_they_say() -> None:
    """The timestamps reach the demuxer as they were written."""
    for name in ("from the smallest", "negative", "from end to end", "a leap to the end", "far apart"):
        with av.open(io.BytesIO(stamped(ODD[name])), "r") as container:
            stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
        assert stamps == [ODD[name](number) for number in range(COUNT)]
