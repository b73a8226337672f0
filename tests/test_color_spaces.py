"""Promise: a color space is converted as FFmpeg converts it, or refused by its name with the way out."""

from __future__ import annotations

import io

import av
import cv2
import numpy as np
import pytest
from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec
from actionrec.video.decode import decode, windows

from testing.media import encode, textured_frames

SPEC = ClipSpec(short_side=64, crop=64)
FRAMES = textured_frames(96, 64, 40)

REFUSED = {
    "YCgCo": "ycgco",
    "bt2020c": "bt2020c",
    "smpte2085": "smpte2085",
    "chroma-derived-nc": "chroma-derived-nc",
    "chroma-derived-c": "chroma-derived-c",
    "ICtCp": "ictcp",
}
"""x264's name -> FFmpeg's, of spaces that swscale cannot convert."""
CONVERTED = {"undef": 2, "bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020nc": 9}
"""x264's name -> number in ITU-T H.273."""


def clip(space: str, full: str = "off", pix_fmt: str = "yuv420p") -> bytes:
    """An H.264 clip that says which color space it is in, and whether its levels fill the whole range."""
    return encode(FRAMES, pix_fmt=pix_fmt, options={"x264-params": f"colormatrix={space}:fullrange={full}"})


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("space", REFUSED)
def test_what_cannot_be_converted_is_named(space: str, pix_fmt: str) -> None:
    """The error has a code of its own, the space's name, and a line that converts it."""
    for selection in (Selection(), Selection(0.5), Selection(stride_seconds=0.2), Selection(crops=3)):
        with pytest.raises(ClipError) as caught:
            list(windows(clip(space, pix_fmt=pix_fmt), SPEC, selection, DEFAULT_LIMITS))
        error = caught.value
        assert (error.code, error.status) == ("UNSUPPORTED_COLOR_SPACE", 422)
        assert f"in {REFUSED[space]}," in error.message
        assert "zscale=matrix=709" in error.hint
        assert "setparams=colorspace=bt709" in error.hint


def test_hevc_too() -> None:
    """It is the frame that says it, whatever the codec."""
    video = encode(FRAMES, codec="libx265", options={"x265-params": "colormatrix=ictcp:log-level=none"})
    with pytest.raises(ClipError, match=r"UNSUPPORTED_COLOR_SPACE.* in ictcp,"):
        decode(video, SPEC)


@pytest.mark.parametrize("full", ["off", "on"])
@pytest.mark.parametrize("space", CONVERTED)
def test_every_other_space_is_converted(space: str, full: str) -> None:
    """The pixels are those of FFmpeg's own conversion of the whole frame."""
    video = clip(space, full)
    with av.open(io.BytesIO(video), "r") as container:
        frame = next(container.decode(video=0))
    assert int(frame.colorspace) == CONVERTED[space]
    # An MP4 says so where a stream leaves it open.
    assert int(frame.color_range) in {"off": (0, 1), "on": (2,)}[full]
    expected = frame.to_ndarray(format="rgb24").astype(np.float32)[:, 16:80]
    assert np.abs(decode(video, SPEC).frames[0] / 128 - expected).max() <= 1 / 64


def test_spaces_and_ranges_differ() -> None:
    """Else the tests above would show nothing: what a stream says of its colors changes them."""
    pictures = [decode(clip(*kind), SPEC).frames[0] for kind in (("bt709",), ("bt470bg",), ("bt709", "on"))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(pictures[one].astype(int) - pictures[other]).max() > 3 * 128


def test_where_there_is_nothing_to_convert() -> None:
    """RGB and grey in a stream that says YCgCo are what they are."""
    grey = np.repeat(cv2.cvtColor(FRAMES[0], cv2.COLOR_RGB2GRAY)[None, :, :, None], 40, axis=0)
    video = encode(
        np.repeat(grey, 3, axis=3), pix_fmt="gray", options={"x264-params": "colormatrix=YCgCo:log=-1"}
    )
    assert decode(video, SPEC).frames.shape == (32, 64, 64, 3)
