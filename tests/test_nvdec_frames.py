"""Promise: frames that are brought to the model's size on a GPU are those of the CPU, as a CPU can tell."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
import pytest
import torch
from actionrec.nvdec.convert import PlaneConverter
from actionrec.spec import ClipSpec
from actionrec.video.acceleration import NotTakenError
from actionrec.video.resize import Pixels, Resizer
from av.video.frame import VideoFrame

from testing.media import encode, textured_frames, turn
from tests.helpers_nvdec import planes_of

SPEC = ClipSpec(short_side=64, crop=64)
CPU = torch.device("cpu")
LIMITED, FULL = 1, 2


def frame_of(
    width: int, height: int, kind: str = "yuv420p", space: int = 1, color_range: int = LIMITED
) -> VideoFrame:
    """A frame of noise in every level, also those that no picture has."""
    random = np.random.default_rng(width * height)
    frame = VideoFrame(width, height, kind)
    for plane in frame.planes:
        deep = kind.endswith("10le")
        top = 1024 if deep else 256
        levels = random.integers(0, top, plane.buffer_size // (2 if deep else 1), np.uint16)
        plane.update(levels.astype(np.uint16 if deep else np.uint8).tobytes())
    frame.colorspace, frame.color_range = space, color_range
    return frame


def converted(frame: VideoFrame, crops: int = 1) -> tuple[Pixels, tuple[int, int]]:
    """What a GPU would make of a frame."""
    converter = PlaneConverter(SPEC, crops, planes_of, CPU)
    places = [np.zeros((crops, SPEC.crop, SPEC.crop, 3), np.int16) for _ in range(2)]
    converter.write(frame, places)
    converter.finish()
    assert np.array_equal(places[0], places[1])
    return places[0], converter.shown


def steps_apart(frame: VideoFrame, crops: int = 1) -> tuple[float, float]:
    """Mean and largest difference from the CPU's frame, in steps of 1/128 level."""
    resize = Resizer(SPEC, crops)
    expected = resize(frame).astype(np.int32)
    got, shown = converted(frame, crops)
    assert shown == resize.shown
    apart = np.abs(got - expected)
    return float(apart.mean()), float(apart.max())


@pytest.mark.parametrize("color_range", [LIMITED, FULL])
@pytest.mark.parametrize("space", [0, 1, 2, 4, 5, 6, 7, 9])
def test_colors(space: int, color_range: int) -> None:
    """Every matrix and range gives the CPU's levels; a few pixels' factors may round to another one."""
    mean, most = steps_apart(frame_of(320, 180, space=space, color_range=color_range))
    assert mean <= 1
    assert most <= 128


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("size", [(320, 180), (180, 320), (96, 64), (64, 64), (66, 70), (1920, 1080)])
def test_sizes(size: tuple[int, int], crops: int) -> None:
    """Whatever its size and crops, a frame is resized between the same pixels as on the CPU."""
    mean, most = steps_apart(frame_of(*size), crops)
    assert mean <= 0.01
    assert most <= 1


def kept(video: bytes) -> list[VideoFrame]:
    """The frames of a file."""
    with av.open(io.BytesIO(video), "r") as file:
        return [*file.decode(video=0)]


FRAMES = textured_frames(160, 120, 8)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation(degrees: int) -> None:
    """A phone's clip is turned upright."""
    frame = kept(turn(encode(FRAMES), degrees))[-1]
    assert frame.rotation % 360 != 0
    for crops in (1, 3):
        mean, most = steps_apart(frame, crops)
        assert mean <= 0.01
    assert most <= 1


def test_more_bits() -> None:
    """HEVC of 10 bits gives the CPU's frames too, though swscale has chroma of more bits in other places."""
    options = {"x265-params": "log-level=none"}
    for frame in kept(encode(FRAMES, codec="libx265", pix_fmt="yuv420p10le", options=options)):
        mean, most = steps_apart(frame)
        assert mean <= 1
        assert most <= 128


def test_frames_for_the_cpu() -> None:
    """Frames that would come out otherwise than on the CPU are left to it, with a reason."""

    def refused(frame: VideoFrame) -> str:
        with pytest.raises(NotTakenError) as error:
            converted(frame)
        return str(error.value)

    assert "odd" in refused(frame_of(321, 180))
    assert "color space is 14" in refused(frame_of(320, 180, space=14))
    assert "BT.2020" in refused(frame_of(320, 180, "yuv420p10le", space=9))
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    assert "interlaced" in refused(kept(encode(FRAMES, options=options))[0])


def test_frames_that_change_their_size() -> None:
    """A converter takes the sizes as they come."""
    converter = PlaneConverter(SPEC, 1, planes_of, CPU)
    for size in ((320, 180), (180, 320), (320, 180)):
        frame = frame_of(*size)
        place = np.zeros((1, SPEC.crop, SPEC.crop, 3), np.int16)
        converter.write(frame, [place])
        assert np.abs(place.astype(int) - Resizer(SPEC)(frame)).max() <= 1
        assert converter.shown == size


def test_parts_of_a_larger_array() -> None:
    """Places may be parts of a larger array, as the frames of several crops are."""
    frames: Sequence[VideoFrame] = [frame_of(320, 180), frame_of(322, 180)]
    out = np.zeros((3, 2, SPEC.crop, SPEC.crop, 3), np.int16)
    converter = PlaneConverter(SPEC, 3, planes_of, CPU)
    for number, frame in enumerate(frames):
        converter.write(frame, [out[:, number]])
    converter.finish()
    for number, frame in enumerate(frames):
        assert np.abs(out[:, number].astype(int) - Resizer(SPEC, 3)(frame)).max() <= 1
