"""Promise: a part that is cut out of a video has bit for bit the frames of the whole."""

from collections.abc import Callable

import numpy as np
import pytest
from actionrec.spec import ClipSpec
from actionrec.video.decode import decode

from actionrec_client.timeline.remux import CuttableVideo, NotCuttable
from testing.media import encode, textured_frames, trimmed, turn
from tests.conftest import SHARED_DATA

SPEC = ClipSpec(short_side=96, crop=96)
FRAMES = textured_frames(160, 120, 300)
GOP = {"g": "40", "bf": "2"}
FILES: dict[str, Callable[[], bytes]] = {
    "mp4": lambda: encode(FRAMES, 30, options=GOP),
    "29.97 fps": lambda: encode(FRAMES, 30000 / 1001, options=GOP),
    "open GOP": lambda: encode(FRAMES, 25, options={**GOP, "x264-params": "open-gop=1"}),
    "variable rate": lambda: encode(FRAMES, times=[i / 30 + 0.4 * (i // 50) for i in range(300)], options=GOP),
    "turned": lambda: turn(encode(FRAMES, 30, options=GOP), 90),
    "matroska": lambda: encode(FRAMES, 30, container="matroska", options=GOP),
    "mpegts": lambda: encode(FRAMES, 30, container="mpegts", options=GOP),
    "vp9": lambda: encode(FRAMES[:200], 30, codec="libvpx-vp9", container="webm", options={"g": "40"}),
    "hevc": lambda: encode(FRAMES[:200], codec="libx265", options={"x265-params": "log-level=none:keyint=40"}),
    "mjpeg": lambda: encode(FRAMES[:200], 30, codec="mjpeg", container="mov", pix_fmt="yuvj420p"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_cut_keeps_every_frame(name: str) -> None:
    """Windows of a part have bit for bit the frames that the same seconds of the whole have."""
    data = FILES[name]()
    file = CuttableVideo(data)
    starts = [start for start in (0.0, 1.1, 3.4, 4.2) if start + 2.2 < file.seconds]
    for start in starts:
        part = file.part(start, start + SPEC.window_seconds)
        assert len(part.data) < len(data)
        whole, cut = decode(data, SPEC, start), decode(part.data, SPEC, start - part.offset_seconds)
        assert np.array_equal(whole.frames, cut.frames)
        assert whole.warnings == cut.warnings
        assert cut.end_seconds + part.offset_seconds == pytest.approx(whole.end_seconds, abs=1e-6)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the real clips are not beside this checkout")
def test_real_files_are_cut_exactly() -> None:
    """The same for real clips, those that can be cut."""
    tried = 0
    for path in sorted((SHARED_DATA / "real").iterdir()):
        file = CuttableVideo(path)
        start = file.seconds / 2
        if start < SPEC.window_seconds:
            continue
        part = file.part(start, start + SPEC.window_seconds)
        whole, cut = (
            decode(path.read_bytes(), SPEC, start),
            decode(part.data, SPEC, start - part.offset_seconds),
        )
        assert np.array_equal(whole.frames, cut.frames), path
        tried += 1
    assert tried >= 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"not a video",
        lambda: encode(FRAMES[:60], codec="mpeg4", container="avi"),
        lambda: encode(FRAMES[:60], container="h264"),
        lambda: trimmed(FILES["mp4"](), 1.0),
    ],
    ids=["empty", "text", "avi", "bare", "edit list"],
)
def test_what_is_not_cut(make: Callable[[], bytes]) -> None:
    """Files whose packets cannot stand alone are told from others."""
    with pytest.raises(NotCuttable):
        CuttableVideo(make())
