"""Promise: a live stream's windows are those of a file, and travel to the server as they are."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from actionrec.spec import STEPS_PER_LEVEL, ClipSpec
from actionrec.video.decode import decode
from actionrec.video.resize import Resizer, rounded
from rich.console import Console

from actionrec_client.files.draw import draw_labels
from actionrec_client.live.clip import EXACT, SMALL, Frame, encode
from actionrec_client.live.events import Answered, Event, Failed, Gap, Lost, Opened, Summary
from actionrec_client.live.screen import LiveTable, PlainLines
from actionrec_client.live.smooth import Smoother
from actionrec_client.live.source import Source, SourceError
from actionrec_client.live.window import RollingWindow, SampledWindow
from testing import media

SMALL_SPEC = ClipSpec(short_side=64, crop=64)


def _stream(video: bytes, spec: ClipSpec, interval: float) -> list[SampledWindow]:
    """All windows of a file that is fed as a stream."""
    windows: list[SampledWindow] = []
    resize = Resizer(spec)
    with av.open(io.BytesIO(video), "r") as container:
        stream = container.streams.video[0]
        rolling = RollingWindow(spec, interval, stream.time_base or Fraction(1))
        for frame in container.decode(stream):
            assert frame.pts is not None
            windows += rolling.add(frame.pts, rounded(resize(frame)[0]), 0.0, 0.0)
        return [*windows, *rolling.finish()]


def _noise(spec: ClipSpec) -> list[Frame]:
    """As many frames as a window has, of pixels that no codec can guess."""
    rng = np.random.default_rng(3)
    return list(rng.integers(0, 256, (spec.num_frames, spec.crop, spec.crop, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "spec",
    [
        SMALL_SPEC,
        ClipSpec(),
        ClipSpec(short_side=256, crop=224),
        ClipSpec(short_side=66, crop=64),  # an odd margin
        ClipSpec(short_side=67, crop=64),  # half a pixel
        ClipSpec(pathways=(16, 64), sampling_rate=2, short_side=64, crop=64),
        ClipSpec(pathways=(16,), sampling_rate=5, fps=29.97, short_side=64, crop=64),
    ],
    ids=str,
)
def test_the_server_sees_the_very_frames(spec: ClipSpec) -> None:
    """Coded losslessly, each frame of a window comes out of the server's decoder once, bit for bit."""
    frames = _noise(spec)
    there = decode(encode(frames, spec), spec)
    np.testing.assert_array_equal(there.frames, np.stack(frames).astype(np.int16) * STEPS_PER_LEVEL)
    assert there.source_frames == spec.num_frames
    assert there.warnings == ()


def test_the_small_coding_is_near() -> None:
    """On smooth pictures the lossy coding changes a pixel by two levels on the mean, for fewer bytes."""
    spec = replace(ClipSpec(), short_side=128, crop=128)
    frames = list(media.textured_frames(128, 128, spec.num_frames))
    small = encode(frames, spec, SMALL)
    there = decode(small, spec).frames / STEPS_PER_LEVEL
    assert np.abs(there - np.stack(frames)).mean() < 2
    assert len(small) < len(encode(frames, spec, EXACT))


@pytest.mark.parametrize(
    ("fps", "size", "times"),
    [
        (30, (64, 64), None),
        (24, (160, 90), None),
        (29.97, (90, 160), None),
        (60, (64, 64), None),
        (10, (64, 64), None),  # fewer frames than the model eats
        (30, (64, 64), [i / 30 + 0.01 * (i % 3) for i in range(150)]),  # a variable rate
        (30, (64, 64), [i / 30 + (3.0 if i > 80 else 0.0) for i in range(150)]),  # a picture that stands still
    ],
)
def test_windows_of_a_stream_are_those_of_the_file(
    fps: float, size: tuple[int, int], times: list[float] | None
) -> None:
    """The same seconds of video give the same frames, pixel for pixel in whole levels."""
    count = len(times) if times else round(5 * fps)
    frames = media.textured_frames(*size, count)
    video = media.encode(frames, fps, options={"g": "12", "bf": "2"}, times=times)
    windows = _stream(video, SMALL_SPEC, 0.7)
    assert len(windows) >= 4
    for window in windows:
        file = decode(video, SMALL_SPEC, window.start_seconds)
        np.testing.assert_array_equal(np.stack(window.frames), file.rounded())
        assert window.source_frames == file.source_frames


def test_a_short_file_is_one_window() -> None:
    """A file shorter than a window gives one window of all its frames, as it does when it is sent as a file."""
    video = media.encode(media.textured_frames(64, 64, 20), 30)
    (window,) = _stream(video, SMALL_SPEC, 1.0)
    file = decode(video, SMALL_SPEC)
    np.testing.assert_array_equal(np.stack(window.frames), file.rounded())
    assert window.end_seconds == pytest.approx(file.end_seconds)


def test_memory_of_a_window_is_bounded() -> None:
    """A thousand frames a second are thinned, an endless stream keeps no more than a window."""
    rolling = RollingWindow(SMALL_SPEC, 0.5, Fraction(1, 1000))
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    most = 0
    for ticks in range(20_000):
        if rolling.wants(ticks):
            for window in rolling.add(ticks, pixels, 0.0, 0.0):
                most = max(most, window.source_frames)
    assert SMALL_SPEC.num_frames < most <= 8 * SMALL_SPEC.num_frames
    assert len(rolling._kept) <= 8 * SMALL_SPEC.num_frames + 1


def test_a_silent_second_costs_no_windows_of_other_frames() -> None:
    """Over a hole longer than a window there is no window without a frame."""
    rolling = RollingWindow(SMALL_SPEC, 0.5, Fraction(1, 30))
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    windows = [w for ticks in [*range(90), *range(900, 990)] for w in rolling.add(ticks, pixels, 0.0, 0.0)]
    assert windows
    assert all(window.source_frames for window in windows)


def test_a_leap_of_centuries_takes_no_time() -> None:
    """Windows that would be empty are not even counted through, however far a timestamp leaps."""
    rolling = RollingWindow(SMALL_SPEC, 0.05, Fraction(1, 30))
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    windows = [w for ticks in (0, 10**12, 10**12 + 90) for w in rolling.add(ticks, pixels, 0.0, 0.0)]
    assert len(windows) > 10
    assert all(window.source_frames == 1 for window in windows)


def test_smoothing() -> None:
    """The mean moves to what is new by the time that passed, not by the number of results, and sums to one."""
    a = [{"label": "a", "class_index": 0, "score": 1.0}, {"label": "b", "class_index": 1, "score": 0.0}]
    b = [{"label": "b", "class_index": 1, "score": 1.0}]
    often, seldom = Smoother(2.0), Smoother(2.0)
    often.add(0.0, a)
    seldom.add(0.0, a)
    for step in range(1, 9):
        smoothed = often.add(step * 0.5, b)
    assert smoothed == seldom.add(4.0, b)
    assert smoothed[0]["label"] == "b"
    assert smoothed[0]["score"] == pytest.approx(1 - np.exp(-2), abs=1e-5)
    assert sum(entry["score"] for entry in smoothed) == pytest.approx(1, abs=1e-5)
    often.reset()
    assert often.add(9.0, a)[0]["label"] == "a"


def test_what_is_no_source() -> None:
    """A file or a camera that is not there is named at once, with what there is to choose from."""
    with pytest.raises(SourceError, match="no file"):
        Source("nothing.mp4")
    with pytest.raises(SourceError, match="no camera /dev/video97"):
        Source("97")


def test_passwords_stay_out_of_sight() -> None:
    """User and password of an address are in no line that is shown."""
    source = Source("rtsp://admin:s3cr@t@127.0.0.1:9/live?x=1")
    assert "s3cr" not in source.shown
    assert source.shown.startswith("rtsp://")
    assert "127.0.0.1:9/live" in source.shown


RESULT = Answered(
    start_seconds=3601.0,
    end_seconds=3603.1,
    start_at=1.7e9,
    end_at=1.7e9 + 2.1,
    predictions=[
        {"label": "dancing gangnam style [live]", "class_index": 1, "score": 0.71},
        {"label": "tap dancing", "class_index": 2, "score": 0.2},
        {"label": "marching", "class_index": 3, "score": 0.09},
    ],
    smoothed=False,
    age_seconds=0.31,
    lag_seconds=0.0,
    source_frames=64,
    frames_dropped=3,
    windows_skipped=2,
    sent_bytes=1,
    warnings=[{"code": "LOW_FRAME_RATE", "message": "few"}],
)
EVENTS: list[Event] = [
    Opened("rtsp://***@camera/live", 1280, 720, 1.7e9),
    RESULT,
    Lost("rtsp://***@camera/live broke off", 1.7e9),
    Gap("rtsp://***@camera/live broke off", 3603.1, 3609.0, 5.9, 1.7e9, 2),
    Failed(0.0, 2.1, "ServiceUnavailableException", 503, "no [bold] worker", "Wait.", 1.7e9),
    Summary(60.0, 55, 1, 1, 1790, 3, 2, "Ctrl-C"),
]


def test_the_table_fits_a_terminal() -> None:
    """On 100 columns no line of the table is broken, and labels, age, counts and gaps can be read in it."""
    text = io.StringIO()
    terminal = Console(file=text, width=100, height=40, force_terminal=True, color_system=None)
    with LiveTable(
        terminal, "rtsp://camera/live -> http://127.0.0.1:8080/predictions/motion, every 1 s"
    ) as table:
        for event in EVENTS:
            table(event)
    shown = text.getvalue()
    assert "dancing gangnam style [live]" in shown
    for piece in (
        "0.71",
        "0.31 s",
        "3601.0-3603.1",
        "windows skipped: 2",
        "frames dropped: 3",
        "gaps: 1",
        "Wait.",
    ):
        assert piece in shown
    assert all(len(line) <= 100 for line in shown.replace("\r", "\n").split("\n") if "\x1b" not in line)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (64, 240), (1280, 720)])
def test_labels_are_drawn_in_the_corner(width: int, height: int) -> None:
    """Only the lower left corner is drawn on, and a better score has a longer bar."""
    grey = np.full((height, width, 3), 120, dtype=np.uint8)
    lengths = []
    for score in (0.2, 0.9):
        picture = grey.copy()
        draw_labels(picture, [("dancing gangnam style", score), ("ålesund", 0.01)], "12.3 s")
        changed = (picture != grey).any(axis=2)
        assert not changed[: height // 2].any()
        assert changed[-1, 0]
        assert changed.any(axis=0).argmin() or changed[-1].all()  # from the left edge on
        greener = picture[..., 1].astype(int) - picture[..., 0] > 60
        lengths.append(int(greener.any(axis=0).sum()))
    assert lengths[1] > 2 * lengths[0]
    untouched = grey.copy()
    draw_labels(untouched, [])
    assert np.array_equal(untouched, grey)


def test_a_line_for_every_event() -> None:
    """In a pipe every event is one line of plain text."""
    text = io.StringIO()
    lines = PlainLines(Console(file=text, width=100))
    for event in EVENTS:
        lines(event)
    assert len(text.getvalue().splitlines()) == len(EVENTS)
    assert "\x1b" not in text.getvalue()
    assert "5.9 s, 2 attempts" in text.getvalue()
