"""Promise: many windows come from one decoding pass, and each is what decoding it alone gives, bit for bit."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS, Limits
from actionrec.sampling import Selection, spread
from actionrec.spec import ClipSpec
from actionrec.video.container import Source
from actionrec.video.decode import Decoded, decode, windows
from actionrec.video.packets import FarTrack, Span
from actionrec.video.resize import Pixels, Resizer
from actionrec.video.window_reader import WindowReader

from testing.media import broken, cut_out, encode, textured_frames, trimmed, turn
from testing.reference import scaled_crop
from tests.conftest import SHARED_DATA

SPEC = ClipSpec(short_side=64, crop=64)
FRAMES = textured_frames(160, 120, 240)
REAL = sorted((SHARED_DATA / "real").glob("*.m*"))
TIMELINE = Selection(stride_seconds=0.5)
VARIABLE = np.cumsum(np.where(np.arange(240) % 3 == 0, 0.05, 0.02)).tolist()


CLIPS: dict[str, Callable[[], bytes]] = {
    "30 fps": lambda: encode(FRAMES),
    "30 fps, gop 250, 3 B-frames": lambda: encode(FRAMES, options={"g": "250", "bf": "3"}),
    "30 fps, gop 12, 2 B-frames": lambda: encode(FRAMES, options={"g": "12", "bf": "2"}),
    "25 fps": lambda: encode(FRAMES, fps=25, options={"g": "30"}),
    "60 fps": lambda: encode(np.repeat(FRAMES, 2, axis=0), fps=60),
    "10 fps": lambda: encode(FRAMES[:80], fps=10),
    "variable rate": lambda: encode(FRAMES, times=VARIABLE),
    "upright phone": lambda: turn(encode(FRAMES, options={"g": "40"}), 90),
    "edit list": lambda: trimmed(encode(FRAMES, options={"g": "20", "bf": "2"}), 0.5),
    "matroska": lambda: encode(FRAMES, container="matroska", options={"g": "48"}),
    "mpeg-ts": lambda: encode(FRAMES, container="mpegts", options={"g": "48"}),
    "avi with B-frames": lambda: encode(FRAMES, container="avi", options={"bf": "2"}),
    "bare h264": lambda: encode(FRAMES, container="h264", options={"bf": "2"}),
    "hevc": lambda: encode(FRAMES, codec="libx265", options={"x265-params": "log-level=none:keyint=40"}),
    "vp9": lambda: encode(
        FRAMES, codec="libvpx-vp9", container="webm", options={"deadline": "realtime", "cpu-used": "8"}
    ),
    "av1": lambda: encode(FRAMES, codec="libsvtav1", options={"preset": "12"}),
    "a hole": lambda: cut_out(encode(FRAMES, options={"g": "15", "bf": "0"}), 3.0, 3.5),
}


@cache
def clip_of(name: str) -> bytes:
    """One of `CLIPS`."""
    return CLIPS[name]()


def described(clip: Decoded) -> dict[str, object]:
    """What a window says of itself, alone or in a timeline."""
    return {
        f.name: getattr(clip, f.name)
        for f in fields(clip)
        if f.name not in ("frames", "window", "shot_boundaries")
    }


def assert_each_is_as_alone(video: bytes, selection: Selection) -> list[Decoded]:
    together = list(windows(video, SPEC, selection, DEFAULT_LIMITS))
    for clip in together:
        alone = decode(video, SPEC, clip.start_seconds)
        assert np.array_equal(clip.frames, alone.frames), clip.start_seconds
        assert described(clip) == described(alone)
    return together


@pytest.mark.parametrize("name", CLIPS)
def test_timeline_of_every_kind_of_clip(name: str) -> None:
    """Overlapping windows, whatever the container, codec, rate and order of frames."""
    together = assert_each_is_as_alone(clip_of(name), TIMELINE)
    starts = [clip.start_seconds for clip in together]
    assert len(starts) >= 10
    assert starts == pytest.approx(np.arange(len(starts)) / 2)
    assert [clip.window for clip in together] == list(range(len(together)))


@pytest.mark.parametrize(
    "selection",
    [
        Selection(views=10),
        Selection(1.3, 6.1, views=3),
        Selection(views=2),
        Selection(0.7, 5.0, stride_seconds=0.13),
        Selection(stride_seconds=2.9),
    ],
    ids=str,
)
def test_other_selections(selection: Selection) -> None:
    """Views, ranges, short and long strides; windows that are far apart are reached without what is between."""
    for name in ("30 fps, gop 12, 2 B-frames", "variable rate", "bare h264"):
        assert len(assert_each_is_as_alone(clip_of(name), selection)) > 1


@pytest.mark.parametrize("path", REAL or [None], ids=lambda p: p.name if p else "absent")
def test_real_clips(path: Path | None) -> None:
    """Each real clip's timeline and views."""
    if path is None:
        pytest.skip("no folder of real clips beside this checkout (../shared/data/real)")
    assert_each_is_as_alone(path.read_bytes(), TIMELINE)
    assert_each_is_as_alone(path.read_bytes(), Selection(views=4))


def test_each_frame_is_decoded_and_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty windows of one clip convert a frame once, however many of them sample it, and decode it once."""
    converted: list[int | None] = []
    decoded: list[int] = []
    resize = Resizer.__call__

    def counting_resize(self: Resizer, frame: av.VideoFrame) -> Pixels:
        converted.append(frame.pts)
        return resize(self, frame)

    monkeypatch.setattr(Resizer, "__call__", counting_resize)
    video = encode(FRAMES, options={"g": "60"})
    selection = Selection(stride_seconds=0.3)
    with Source(video) as source, ThreadPoolExecutor(1) as thread:
        track = FarTrack(source)
        run = WindowReader(source, track, SPEC, spread(selection, SPEC.window_seconds, track.seconds()), thread)
        frames = run._decoded

        def counting_decoder(
            spans: Sequence[Span], wanted: frozenset[int] | None
        ) -> Iterator[tuple[int, int, av.VideoFrame]]:
            for number, stamp, frame in frames(spans, wanted):
                decoded.append(stamp)
                yield number, stamp, frame

        monkeypatch.setattr(run, "_decoded", counting_decoder)
        assert len(list(run.decode())) == 20
    assert len(converted) == len(set(converted)) > 200
    assert len(decoded) == len(set(decoded))


def test_far_windows_leave_out_what_is_between() -> None:
    """Of windows spread over a long clip nothing between them is decoded, but from the last key frame on."""
    video = encode(np.tile(FRAMES[:, :32, :32], (8, 1, 1, 1)), options={"g": "30", "bf": "2"})
    with Source(video) as source, ThreadPoolExecutor(1) as thread:
        track = FarTrack(source)
        assert track.seconds() == pytest.approx(64)
        run = WindowReader(
            source, track, SPEC, spread(Selection(views=5), SPEC.window_seconds, track.seconds()), thread
        )
        read = sum(packet is not None for _, packet in track.read([window.span for window in run.windows]))
    assert 5 * 64 <= read <= 5 * (64 + 30 + 8)


def test_memory_is_flat_in_the_length() -> None:
    """Four times the video takes hardly more memory, which numpy's frames and Python's packets are part of."""

    def peak(seconds: int) -> int:
        video = encode(np.tile(FRAMES[:30, :32, :32], (seconds, 1, 1, 1)), options={"g": "30"})
        tracemalloc.start()
        for clip in windows(video, SPEC, Selection(stride_seconds=0.5), Limits(windows=1000)):
            assert not clip.missing
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(10)
    short, long = peak(10), peak(40)
    assert short > SPEC.num_frames * SPEC.crop**2 * 3 * 2, "a window at least is held"
    assert long < 1.25 * short


@pytest.mark.parametrize("size", [(160, 120), (120, 160), (162, 90), (64, 64), (91, 200)])
def test_three_crops_are_those_of_pytorchvideo(size: tuple[int, int]) -> None:
    """Left, centre and right, or top, centre and bottom, at pytorchvideo's own pixels."""
    video = encode(textured_frames(*size, 70), pix_fmt="yuv444p")
    spec = ClipSpec(short_side=72, crop=64)
    crops = list(windows(video, spec, Selection(crops=3), DEFAULT_LIMITS))
    assert [(clip.window, clip.crop) for clip in crops] == [(0, 0), (0, 1), (0, 2)]
    with av.open(io.BytesIO(video), "r") as container:
        first = next(container.decode(video=0)).to_ndarray(format="rgb24")
    pixels = torch.from_numpy(first).permute(2, 0, 1).float()
    for index, clip in enumerate(crops):
        expected = scaled_crop(pixels, spec, index).permute(1, 2, 0).numpy()
        assert np.abs(clip.frames[0] / 128 - expected).max() < 0.05


def test_three_crops_of_each_window() -> None:
    """A timeline with three crops gives three views a window, all of the same moments."""
    video = encode(FRAMES)
    views = list(windows(video, SPEC, Selection(stride_seconds=1.0, crops=3), DEFAULT_LIMITS))
    assert [(v.window, v.crop) for v in views] == [(w, c) for w in range(6) for c in range(3)]
    for window in range(6):
        left, centre, right = (view.frames for view in views[3 * window : 3 * window + 3])
        assert views[3 * window].start_seconds == window
        # 64 of the 85 columns each, so that the crops overlap by 53 and 54.
        assert np.array_equal(left[:, :, 11:], centre[:, :, :-11])
        assert np.array_equal(centre[:, :, 10:], right[:, :, :-10])


def test_a_damaged_stretch_costs_its_windows_only() -> None:
    """Windows of which most frames are gone are told as missing, with a reason; the others are as they were."""
    whole = encode(FRAMES, options={"g": "15", "bf": "0"})
    clips = list(windows(broken(whole, 3.0, 6.5), SPEC, TIMELINE, DEFAULT_LIMITS))
    good = list(windows(whole, SPEC, TIMELINE, DEFAULT_LIMITS))
    assert [clip.start_seconds for clip in clips] == [clip.start_seconds for clip in good]
    missing = [clip.start_seconds for clip in clips if clip.missing]
    assert {3.0, 3.5, 4.0} <= set(missing) <= {2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0}
    for clip in clips:
        codes = [warning.code for warning in clip.warnings]
        if clip.missing:
            assert codes == ["WINDOW_MISSING"]
            assert clip.frames.shape[0] == 0
    for before, after in zip(good, clips, strict=True):
        if before.end_seconds <= 3.0:
            assert np.array_equal(before.frames, after.frames)
            assert not after.warnings


@pytest.mark.parametrize("bframes", ["0", "2"])
def test_windows_after_a_long_damaged_stretch_are_as_they_were(bframes: str) -> None:
    """A decoder that reorders holds frames back until the damage ends; no later window is lost by it."""
    whole = encode(FRAMES, options={"g": "15", "bf": bframes})
    clips = list(windows(broken(whole, 2.0, 5.0), SPEC, TIMELINE, DEFAULT_LIMITS))
    good = list(windows(whole, SPEC, TIMELINE, DEFAULT_LIMITS))
    after = [(clip, other) for clip, other in zip(clips, good, strict=True) if other.start_seconds >= 5.0]
    assert len(after) >= 2
    for clip, other in after:
        assert np.array_equal(clip.frames, other.frames)


def test_all_windows_damaged_is_an_error() -> None:
    """Where no window can be decoded the request fails, with the reason."""
    whole = encode(FRAMES, options={"g": "15", "bf": "0"})
    with pytest.raises(ClipError) as caught:
        list(windows(broken(whole, 0.0, 9.0), SPEC, TIMELINE, DEFAULT_LIMITS))
    assert (caught.value.status, caught.value.code) in {(422, "NO_FRAMES"), (422, "CORRUPT_VIDEO")}


def test_a_hole_in_the_timestamps_is_a_gap() -> None:
    """Where a video has no frames for longer than a window, the windows inside are missing, and no others."""
    video = cut_out(encode(FRAMES, options={"g": "15", "bf": "0"}), 2.0, 6.0)
    clips = list(windows(video, SPEC, Selection(stride_seconds=0.8), DEFAULT_LIMITS))
    assert [clip.window for clip in clips if clip.missing] == [3, 4]
    assert "between 2.4 s and 4.53333 s" in clips[3].warnings[0].message


def test_too_many_windows_says_how_to_ask_for_fewer() -> None:
    """The number of windows is limited, and the hint has the numbers that fit."""
    video = encode(FRAMES[:, :32, :32])
    limits = Limits(windows=6)
    assert len(list(windows(video, SPEC, Selection(stride_seconds=1), limits))) == 6
    with pytest.raises(ClipError) as caught:
        list(windows(video, SPEC, Selection(stride_seconds=1, crops=3), limits))
    error = caught.value
    assert (error.code, error.status) == ("TOO_MANY_WINDOWS", 400)
    assert "6 windows (crops of each: 3)" in error.message
    assert "end_seconds" in error.hint
    assert "3.133 s at a time" in error.hint
    assert len(list(windows(video, SPEC, Selection(0, 3.134, stride_seconds=1, crops=3), limits))) == 6
    with pytest.raises(ClipError, match="views of at most 6"):
        list(windows(video, SPEC, Selection(views=7), limits))


@pytest.mark.parametrize("selection", [Selection(views=5), TIMELINE, Selection(0.2, 0.9, stride_seconds=0.1)])
def test_a_range_shorter_than_a_window_is_one_window(selection: Selection) -> None:
    """Nothing to spread: one window, with the frames that decoding the range alone gives."""
    video = encode(FRAMES[:40])
    (clip,) = windows(video, SPEC, selection, DEFAULT_LIMITS)
    alone = decode(video, SPEC, selection.start_seconds, selection.end_seconds)
    assert np.array_equal(clip.frames, alone.frames)
    assert [w.code for w in clip.warnings] == ["SHORT_WINDOW"]


@pytest.mark.parametrize("selection", [Selection(9.0, views=5), Selection(9.0, stride_seconds=1)])
def test_start_beyond_the_end(selection: Selection) -> None:
    """A range that starts after the clip's end is refused as a single window there is."""
    with pytest.raises(ClipError, match=r"start_seconds is 9, but the clip lasts 8\.000 s"):
        list(windows(encode(FRAMES[:, :32, :32]), SPEC, selection, DEFAULT_LIMITS))
