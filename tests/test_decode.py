"""Promise: whatever holds a video is decoded by its timestamps; whatever does not is refused with a reason."""

import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from actionrec.errors import ClipError
from actionrec.sampling import uniform_indices
from actionrec.spec import STEPS_PER_LEVEL, ClipSpec
from actionrec.video.container import Source
from actionrec.video.decode import decode
from actionrec.video.resize import Resizer

from testing.media import encode, textured_frames, trimmed, turn, with_bad_metadata, with_more_streams
from tests.conftest import SHARED_DATA

SPEC = ClipSpec(short_side=64, crop=64)
EDGE = SHARED_DATA / "edge"
FRAMES = textured_frames(160, 120, 120)
QUIET = {"x265-params": "log-level=none"}

FORMATS = {
    "mp4": {},
    "mp4 gop 12 with B-frames": {"options": {"g": "12", "bf": "2"}},
    "mp4 without B-frames": {"options": {"bf": "0"}},
    "mkv": {"container": "matroska"},
    "ts": {"container": "mpegts"},
    "flv": {"container": "flv"},
    "avi h264 with B-frames": {"container": "avi", "options": {"bf": "2"}},
    "avi mpeg4": {"container": "avi", "codec": "mpeg4"},
    "avi mpeg4 with B-frames": {"container": "avi", "codec": "mpeg4", "options": {"bf": "2"}},
    "bare h264": {"container": "h264", "options": {"bf": "2"}},
    "bare hevc": {"container": "hevc", "codec": "libx265", "options": QUIET},
    "hevc": {"codec": "libx265", "options": QUIET},
    "10 bit": {"pix_fmt": "yuv420p10le"},
    "4:4:4": {"pix_fmt": "yuv444p"},
    "vp9": {"container": "webm", "codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp8": {"container": "webm", "codec": "libvpx"},
    "av1": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "mjpeg": {"container": "mov", "codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mpeg2": {"container": "mpeg", "codec": "mpeg2video"},
    "mpeg1": {"container": "mpeg1video", "codec": "mpeg1video"},
    "wmv": {"container": "asf", "codec": "wmv2"},
    "ogg": {"container": "ogg", "codec": "libvpx"},
}


@pytest.mark.parametrize("start_seconds", [0.0, 1.5])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_frames(name: str, start_seconds: float) -> None:
    """A window is the same moments of the video whatever container and codec it came in."""
    clip = decode(encode(FRAMES, **FORMATS[name]), SPEC, start_seconds)  # type: ignore[arg-type]
    # Millisecond clocks put the frame after the window just before its end; the reference counts it in too.
    assert clip.source_frames in (64, 65)
    assert clip.source_fps == pytest.approx(30, abs=0.1)
    assert (clip.width, clip.height) == (160, 120)
    assert not clip.warnings
    # Neighbouring frames slide by 4 pixels of texture, so the nearest source frame is the one it shows.
    shown = FRAMES[:, ::2, 20:140:2].astype(np.float32)[:, :60, :60]
    assert _nearest(clip.rounded()[0], shown) == round(start_seconds * 30)
    assert abs(_nearest(clip.rounded()[-1], shown) - round(start_seconds * 30) - 63) <= 1


def _nearest(frame: np.ndarray, sources: np.ndarray) -> int:
    small = cv2.resize(frame, (60, 60)).astype(np.float32)
    return int(np.abs(sources - small).mean(axis=(1, 2, 3)).argmin())


def test_start_inside_equals_cut_clip() -> None:
    """Seeking to 1.5 s gives the very frames that decoding from the start would pass on the way."""
    video = encode(FRAMES, options={"g": "250", "bf": "3"})
    wide = ClipSpec(pathways=(30, 120), sampling_rate=1, short_side=64, crop=64)
    every = decode(video, wide).frames
    clip = decode(video, SPEC, start_seconds=1.5)
    assert np.array_equal(clip.frames, every[45 + uniform_indices(64, 32)])


@pytest.mark.parametrize(("degrees", "turns"), [(90, -1), (180, 2), (270, 1)])
def test_rotation(degrees: int, turns: int) -> None:
    """A phone's clip is turned upright, as a player shows it."""
    video = encode(FRAMES[:70])
    upright, turned = decode(video, SPEC), decode(turn(video, degrees), SPEC)
    assert (turned.width, turned.height) == ((120, 160) if degrees != 180 else (160, 120))
    expected = np.rot90(upright.rounded(), k=turns, axes=(1, 2))
    # The crop may start a pixel further where the spare width is odd.
    assert (
        min(
            np.abs(np.roll(expected, s, axis=(1, 2)).astype(int) - turned.rounded())[:, 8:-8, 8:-8].mean()
            for s in ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))
        )
        < 0.5
    )


def test_edit_list() -> None:
    """What an edit list cuts off the front is not seen: time 0 is the first frame that a player shows."""
    video = encode(FRAMES, options={"g": "20", "bf": "2"})
    cut, whole = decode(trimmed(video, 0.5), SPEC), decode(video, SPEC, start_seconds=0.5)
    assert cut.source_frames == whole.source_frames
    assert np.array_equal(cut.frames, whole.frames)
    later = decode(trimmed(video, 0.5), SPEC, start_seconds=1.0)
    assert np.array_equal(later.frames, decode(video, SPEC, start_seconds=1.5).frames)


def test_several_streams() -> None:
    """Of several streams the first video counts, wherever it stands in the file."""
    clip = decode(
        with_more_streams(
            FRAMES[:70],
            FRAMES[50:],
        ),
        SPEC,
    )
    assert np.array_equal(clip.frames, decode(encode(FRAMES[:70]), SPEC).frames)


def test_encoding_leaves_the_priority() -> None:
    """No test video makes this process a real-time one, which would starve the servers under test."""
    before = os.sched_getscheduler(0)
    encode(FRAMES[:3], codec="libsvtav1", options={"preset": "12"})
    assert os.sched_getscheduler(0) == before


def test_metadata_that_is_not_utf8() -> None:
    """A title in some old encoding does not stand in the way of a good clip."""
    video = encode(FRAMES[:70])
    assert np.array_equal(decode(with_bad_metadata(video), SPEC).frames, decode(video, SPEC).frames)


def test_short_clip_is_classified_with_a_warning() -> None:
    """A clip shorter than the window is spread over the model's frames, and the reply says so."""
    clip = decode(encode(FRAMES[:20]), SPEC)
    assert clip.frames.shape == (32, 64, 64, 3)
    assert clip.source_frames == 20
    assert clip.end_seconds == pytest.approx(20 / 30)
    assert [w.code for w in clip.warnings] == ["SHORT_WINDOW"]


def test_one_frame() -> None:
    """A single frame is a short clip, not an error."""
    clip = decode(encode(FRAMES[:1]), SPEC)
    assert clip.source_frames == 1
    assert np.array_equal(clip.frames[0], clip.frames[-1])


def test_low_frame_rate_is_told() -> None:
    """A clip with fewer frames a second than the model eats is answered with a warning of its own."""
    clip = decode(encode(FRAMES[:40], fps=8), SPEC)
    assert clip.source_frames == 18
    assert [w.code for w in clip.warnings] == ["LOW_FRAME_RATE"]


@pytest.mark.parametrize(
    ("end_seconds", "start", "end"), [(1.0, 0.5, 1.0), (3.5, 0.9333, 3.0667), (99.0, 1.1833, 3.3167)]
)
def test_range(end_seconds: float, start: float, end: float) -> None:
    """Of a range longer than the window its middle is taken, of a shorter one all; the clip's end limits it."""
    clip = decode(encode(FRAMES), SPEC, 0.5, end_seconds)
    assert (clip.start_seconds, clip.end_seconds) == pytest.approx((start, end), abs=1e-3)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv420p10le", "nv12"])
@pytest.mark.parametrize("size", [(640, 360), (360, 640), (1366, 768), (853, 481), (855, 480), (240, 180)])
def test_a_part_is_resized_as_it_is_in_the_whole(
    size: tuple[int, int], pix_fmt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut and in bands, a frame gives the pixels that the whole one gives; also where no filter cuts it."""
    spec = ClipSpec(short_side=256, crop=224)
    frame = av.VideoFrame.from_ndarray(textured_frames(*size, 1)[0], format="rgb24").reformat(format=pix_fmt)
    whole = frame.to_ndarray(format="rgb24").astype(np.float32)
    width, height = (256, size[1] * 256 // size[0]) if size[0] < size[1] else (size[0] * 256 // size[1], 256)
    resized = cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = round((height - 224) / 2), round((width - 224) / 2)
    expected = resized[top : top + 224, left : left + 224]
    monkeypatch.setattr("actionrec.video.resize._BAND_BYTES", 1 << 17)
    assert np.abs(Resizer(spec)(frame)[0] / STEPS_PER_LEVEL - expected).max() < 0.05
    monkeypatch.setattr("actionrec.video.resize._crop_filter", lambda *_: None)
    assert np.abs(Resizer(spec)(frame)[0] / STEPS_PER_LEVEL - expected).max() < 0.05


def test_size_change_in_mid_stream() -> None:
    """Frames that change size on the way are each brought to the model's size."""
    joined = encode(FRAMES[:40], container="h264") + encode(textured_frames(320, 240, 40), container="h264")
    clip = decode(joined, SPEC)
    assert clip.source_frames == 64
    assert clip.frames.shape == (32, 64, 64, 3)


def test_damage_in_mid_stream_is_survived() -> None:
    """Broken packets inside the window cost their frames, not the answer, and the reply says so."""
    video = bytearray(encode(FRAMES, options={"g": "10"}))
    middle = len(video) // 3
    video[middle : middle + 600] = bytes(600)
    clip = decode(bytes(video), SPEC)
    assert clip.frames.shape == (32, 64, 64, 3)
    assert "CORRUPT_FRAMES" in [w.code for w in clip.warnings]


BAD = {
    "one byte": (b"x", 415, "NOT_A_VIDEO"),
    "noise": (np.random.default_rng(0).bytes(65536), 415, "NOT_A_VIDEO"),
    "text": (b"hello, this is no video\n" * 50, 415, "NOT_A_VIDEO"),
    "html": (b"<!doctype html><html><body>404</body></html>", 415, "NOT_A_VIDEO"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(200), 415, "NOT_A_VIDEO"),
    "zip": (b"PK\x03\x04" + bytes(200), 415, "NOT_A_VIDEO"),
    "mp3": (b"ID3" + bytes(300), 422, "NO_VIDEO_STREAM"),
    "mp4 header only": (encode(FRAMES[:10])[:40], 422, "UNREADABLE_VIDEO"),
    "moov missing": (encode(FRAMES[:60])[:-2500], 422, "UNREADABLE_VIDEO"),
    "ffv1": (encode(FRAMES[:10], codec="ffv1", container="matroska"), 415, "UNSUPPORTED_CODEC"),
    "webm header only": (encode(FRAMES[:10], codec="libvpx", container="webm")[:300], 422, None),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_video_is_refused(name: str) -> None:
    """Each kind of wrong input has its own code, says what was received, and hints at the way out."""
    data, status, code = BAD[name]
    with pytest.raises(ClipError) as caught:
        decode(data, SPEC)
    assert caught.value.status == status
    assert code in (None, caught.value.code)
    assert caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ],
    ids=["hls", "concat", "sdp"],
)
def test_playlists_open_nothing(text: str, tmp_path: Path) -> None:
    """Bytes that name another file or address are refused; the file they name is not read."""
    canary = tmp_path / "canary.mp4"
    canary.write_bytes(encode(FRAMES[:70]))
    os.utime(canary, (1, 2))  # read long before it was written, so that any read moves its access time
    with pytest.raises(ClipError) as caught:
        decode(text.format(path=canary).encode(), SPEC)
    assert caught.value.status == 415
    assert canary.stat().st_atime == 1
    canary.read_bytes()
    assert canary.stat().st_atime > 1, "this file system keeps no access times, so the test shows nothing"


def test_start_beyond_the_end_says_how_long_the_clip_is() -> None:
    """The error for a start after the last frame names both numbers."""
    with pytest.raises(ClipError, match=r"start_seconds is 9, but the clip lasts 4\.000 s") as caught:
        decode(encode(FRAMES), SPEC, 9.0)
    assert (caught.value.code, caught.value.status) == ("START_BEYOND_END", 400)


def test_length_is_counted() -> None:
    """A clip's length comes from its packets, for bare streams from their number."""
    for kwargs in ({}, {"container": "h264"}, {"container": "matroska"}):
        with Source(encode(FRAMES, **kwargs)) as source:  # type: ignore[arg-type]
            assert source.seconds() == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize("path", sorted(EDGE.glob("*")) or [None], ids=lambda p: p.name if p else "absent")
def test_odd_clips(path: Path | None) -> None:
    """Each odd clip from other projects is decoded; the one without video is refused with its code."""
    if path is None:
        pytest.skip("no folder of odd clips beside this checkout (../shared/data/edge)")
    if path.suffix == ".mp3":
        with pytest.raises(ClipError, match="NO_VIDEO_STREAM"):
            decode(path.read_bytes(), SPEC)
    else:
        assert decode(path.read_bytes(), SPEC).frames.shape == (32, 64, 64, 3)
