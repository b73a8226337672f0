"""Promise: frames come in the order of the decoder, and at their times, whatever a container makes of these."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from actionrec.limits import DEFAULT_LIMITS
from actionrec.sampling import Selection, uniform_indices
from actionrec.spec import ClipSpec
from actionrec.video.decode import Decoded, windows
from actionrec.video.order import Order, delay, shown

from testing.media import copied, encode, in_vfw, numbered_frames, numbers, without_reorder_count

SPEC = ClipSpec(short_side=64, crop=64)
FPS = 25
"""Whole milliseconds a frame, for the containers that count these."""
FRAMES = numbered_frames(200)
XVID = Path(__file__).parent / "seeds" / "avi-xvid.avi"


def mpeg4(container: str, gop: int = 12, b_frames: int = 2) -> bytes:
    options = {"bf": str(b_frames), "g": str(gop), "qscale": "3"}
    return encode(FRAMES, FPS, codec="mpeg4", container=container, options=options)


def h264(container: str, b_frames: int = 2, options: dict[str, str] | None = None) -> bytes:
    return encode(FRAMES, FPS, container=container, options={"bf": str(b_frames), "g": "30", **(options or {})})


def mpeg12(codec: str, container: str) -> bytes:
    return encode(FRAMES, FPS, codec=codec, container=container, options={"bf": "2", "g": "12"})


OPEN_GOP = {"x264-params": "open-gop=1"}

CLIPS: dict[str, Callable[[], bytes]] = {
    "AVI, MPEG-4, GOP 12": lambda: mpeg4("avi"),
    "AVI, MPEG-4, GOP 250": lambda: mpeg4("avi", 250),
    "AVI, MPEG-4, GOP 5, one B-frame": lambda: mpeg4("avi", 5, 1),
    "AVI, MPEG-4, no B-frames": lambda: mpeg4("avi", 12, 0),
    "AVI, MPEG-2": lambda: mpeg12("mpeg2video", "avi"),
    "AVI, MPEG-1": lambda: mpeg12("mpeg1video", "avi"),
    "AVI, H.264": lambda: h264("avi"),
    "AVI, H.264, B-pyramid": lambda: h264("avi", 5, {"g": "250", "preset": "slow"}),
    "AVI, H.264, silent on reordering": lambda: without_reorder_count(h264("avi")),
    "AVI, H.264, silent, no B-frames": lambda: without_reorder_count(h264("avi", 0)),
    "Matroska, MPEG-4": lambda: mpeg4("matroska"),
    "Matroska, VFW, MPEG-4": lambda: in_vfw(mpeg4("avi"), b"XVID"),
    "Matroska, VFW, H.264": lambda: in_vfw(h264("avi"), b"H264"),
    "Matroska, H.264, open GOP": lambda: h264("matroska", options=OPEN_GOP),
    "Matroska, H.264, silent on reordering": lambda: without_reorder_count(h264("matroska")),
    "Matroska, H.264 copied from AVI": lambda: copied(h264("avi"), "matroska"),
    "MP4, MPEG-4": lambda: mpeg4("mp4"),
    "MP4, H.264 copied from AVI": lambda: copied(h264("avi"), "mp4"),
    "ASF, MPEG-4": lambda: mpeg4("asf"),
    "ASF, H.264": lambda: h264("asf"),
    "ASF, H.264, open GOP": lambda: h264("asf", options=OPEN_GOP),
    "FLV, H.264": lambda: h264("flv"),
    "MPEG-TS, MPEG-4": lambda: mpeg4("mpegts"),
    "MPEG-TS, H.264": lambda: h264("mpegts"),
    "MPEG-PS, MPEG-1": lambda: mpeg12("mpeg1video", "mpeg"),
    "MPEG-PS, MPEG-2": lambda: mpeg12("mpeg2video", "mpeg"),
    "MPEG-PS, H.264, no timestamps": lambda: h264("mpeg"),
    "bare MPEG-4": lambda: mpeg4("m4v"),
    "bare MPEG-2": lambda: mpeg12("mpeg2video", "mpeg2video"),
    "bare H.264, silent on reordering": lambda: without_reorder_count(h264("h264")),
}

SELECTIONS = {
    "first window": Selection(),
    "from the middle": Selection(3.32),
    "beyond key frames": Selection(5.48),
    "middle of a range": Selection(1.0, 6.0),
    "short range": Selection(2.0, 2.7),
    "views": Selection(views=4),
    "timeline": Selection(stride_seconds=0.72),
}


def expected(clip: Decoded, selection: Selection, fps: int, count: int) -> list[int]:
    """The numbers of the frames that a window is to show."""
    length = SPEC.window_seconds
    if selection.end_seconds is not None:
        length = min(length, selection.end_seconds - selection.start_seconds)
    first, stop = (math.ceil(s * fps - 1e-6) for s in (clip.start_seconds, clip.start_seconds + length))
    inside = min(stop, count) - first
    return [first + int(index) for index in uniform_indices(inside, SPEC.num_frames)]


@pytest.mark.parametrize("name", CLIPS)
def test_the_frames_that_went_in(name: str) -> None:
    """Each window of every selection shows the very frames that were encoded for its seconds, in order."""
    video = CLIPS[name]()
    for words, selection in SELECTIONS.items():
        for clip in windows(video, SPEC, selection, DEFAULT_LIMITS):
            shown_numbers = numbers(clip.rounded())
            assert shown_numbers == expected(clip, selection, FPS, len(FRAMES)), (words, clip.start_seconds)
            assert not clip.warnings or words == "short range"


@pytest.mark.parametrize("container", ["avi", "matroska", "mp4"])
def test_packed_b_frames(container: str) -> None:
    """XviD's packed B-frames, whose timestamps come out as 2, 4, 3, 6, 5: the order is the decoder's.

    An AVI's frames are at their very times. The encoder has left two chunks empty after the first frame; a
    copy shows that as a hole.
    """
    video = XVID.read_bytes()
    if container != "avi":
        video = copied(video, container)
    for words, selection in {
        "first window": Selection(),
        "from the middle": Selection(0.8),
        "short range": Selection(1.5, 2.2),
        "views": Selection(views=3),
        "timeline": Selection(stride_seconds=0.3),
    }.items():
        for clip in windows(video, SPEC, selection, DEFAULT_LIMITS):
            grey = (clip.frames / 128).mean(axis=(1, 2, 3))
            levels = np.rint((grey * 219 / 255 + 16 - 20) / 2).astype(int).tolist()
            wanted = expected(clip, selection, 30, 95)
            off = [level - want for level, want in zip(levels, wanted, strict=True)]
            assert levels == sorted(levels), (words, levels)
            assert set(off) <= ({0} if container == "avi" else {-1, 0, 1}), (words, off)


def test_chunks_without_a_frame_count() -> None:
    """An AVI's empty chunks, which a recorder writes for frames that it has lost, take their time."""
    kept = [number for number in range(200) if not 60 <= number < 85]
    options = {"bf": "2", "g": "12", "qscale": "3"}
    seconds = [number / FPS for number in kept]
    frames = FRAMES[kept]
    video = encode(frames, FPS, codec="mpeg4", container="avi", options=options, times=seconds, ticks=FPS)
    (clip,) = windows(video, SPEC, Selection(4.0, 6.0), DEFAULT_LIMITS)
    assert numbers(clip.rounded()) == [100 + int(index) for index in uniform_indices(50, SPEC.num_frames)]
    (clip,) = windows(video, SPEC, Selection(2.0, 4.0), DEFAULT_LIMITS)
    assert clip.source_frames == 50 - 25
    assert set(numbers(clip.rounded())) == {*range(50, 60), *range(85, 100)}


def test_what_contradicts() -> None:
    """Going back by a few frames contradicts the decoder; a clock that is set anew does not."""
    for stamps, number in (([1, 2, 4, 3], 3), ([0, 0, 1], None), ([*range(100, 130), 0, 1, 2], None)):
        order = Order()
        found = [place for place, stamp in enumerate(stamps) if order.contradicts(stamp)]
        assert found == ([] if number is None else [number])


def test_frames_are_shown_as_they_come() -> None:
    """A frame's time is that of the packet which brings it out; the last ones follow a tick apart."""
    arrivals = [1, 2, 5, 6, None, None]
    assert delay(arrivals) == 2
    assert shown(arrivals, 1, 1, 0).tolist() == [0, 1, 4, 5, 6, 7]
    assert shown([None, None, None], 7, 40, 100).tolist() == [100, 140, 180]
    assert shown([3, 3, 2], 3, 1, 0).tolist() == [0, 1, 2]


def test_times_at_the_ends_of_64_bits() -> None:
    """No decoding time is too large or too small to be told."""
    largest = 2**63 - 1
    assert shown([largest - 1, largest, None], -largest, 1, 0).tolist() == [largest] * 3
    assert shown([-largest, None], largest, 1, -largest).tolist() == [-largest, -largest + 1]
    assert shown([-largest, None], largest, 1, -largest - 5).tolist() == [-largest] * 2
