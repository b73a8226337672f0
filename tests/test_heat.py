"""Promise: a heat map lies over the video where the crop was and when the step was, whatever the video."""

from __future__ import annotations

import io
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from actionrec_client import Refused
from actionrec_client.files.heat import HeatMap, heat_video
from actionrec_client.files.plot import plot_explanation
from testing.media import Frames, encode, turn
from tests.helpers_explain import explanation, hot, view

GREY = 100


def grey(width: int, height: int, count: int = 20) -> Frames:
    return np.full((count, height, width, 3), GREY, np.uint8)


def pictures(data: bytes) -> tuple[list[float], Frames]:
    """Times and pixels of a video's frames."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = list(container.decode(video=0))
    return [float(frame.time or 0) for frame in frames], np.stack(
        [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]
    )


def redness(frames: Frames) -> np.ndarray:
    """How much more red than blue the pixels are: int [..., H, W]; above 0 for orange, below for blue."""
    return frames[..., 0].astype(int) - frames[..., 2]


def drawn(tmp_path: Path, data: bytes, *views: dict[str, object]) -> tuple[list[float], Frames]:
    """A video with an explanation over it."""
    (tmp_path / "in.mp4").write_bytes(data)
    heat_video(tmp_path / "in.mp4", explanation(*views), tmp_path / "out.mp4")
    return pictures((tmp_path / "out.mp4").read_bytes())


@pytest.mark.parametrize("first", [0.0, 3.0])
def test_a_variable_rate(tmp_path: Path, first: float) -> None:
    """Frames at any times keep them, and those are hot whose nearest step is the hot one, and no others; times
    of steps count from the first frame, whenever that is.
    """
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.choice([0.02, 0.033, 0.15], 40)) - 0.02
    times -= times[0]
    steps = np.array([0.1, 0.4, 0.7, 1.3, 1.8])
    shares = hot((5, 4, 4), (2, 1, 2))
    got, frames = drawn(
        tmp_path,
        encode(grey(160, 128, 40), times=(first + times).tolist()),
        view([(steps.tolist(), shares)], box=(16, 0, 128, 128), end_seconds=1.9),
    )
    assert got == pytest.approx((first + times).tolist(), abs=1e-3)
    hot_frames = redness(frames)[:, 32:64, 80:112].mean((1, 2)) > 40
    nearest = np.abs(times[:, None] - steps).argmin(1)
    assert hot_frames.tolist() == ((nearest == 2) & (times < 1.9)).tolist()
    assert 0 < hot_frames.sum() < 40


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_video(tmp_path: Path, degrees: int) -> None:
    """The box counts in the video as it is shown: a place at its upper left is there after any turn."""
    data = encode(grey(192, 128))
    shown = (128, 192) if degrees in (0, 180) else (192, 128)
    top, left = ((shown[0] - 128) // 2, (shown[1] - 128) // 2)
    _, frames = drawn(
        tmp_path,
        turn(data, degrees) if degrees else data,
        view([([0.5], hot((1, 4, 4), (0, 1, 0), share=2.0))], box=(left, top, 128, 128)),
    )
    assert frames.shape[1:3] == shown
    heat = redness(frames[5])
    y, x = np.unravel_index(cv2.GaussianBlur(heat.astype(np.float32), (0, 0), 6).argmax(), heat.shape)
    assert top + 32 <= y < top + 64
    assert left <= x < left + 32


@pytest.mark.parametrize("size", [(161, 121), (97, 200), (1281, 723)])
def test_odd_sizes_and_boxes_between_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    """A box whose edges lie between pixels has its places where they are, to a pixel; outside it is dark."""
    width, height = size
    side = min(size) - 0.8
    left, top = (width - side) / 2, (height - side) / 2
    found = explanation(
        view([([0.5], hot((1, 8, 8), (0, 3, 5)))], box=(left, top, side, side), end_seconds=1.0)
    )
    heat, seen = HeatMap(found).rates((height, width), 0.2)
    middle = [float((np.arange(n) + 0.5) @ heat.sum(1 - axis)) for axis, n in enumerate(heat.shape)]
    middle = [value / float(heat.sum()) for value in middle]
    assert middle == pytest.approx([top + 3.5 / 8 * side, left + 5.5 / 8 * side], abs=0.5)
    assert seen.sum() == pytest.approx(side * side, rel=0.03)
    data = encode(grey(*size), codec="libx264rgb", pix_fmt="rgb24", options={"qp": "0"})
    _, frames = drawn(
        tmp_path, data, view([([0.5], hot((1, 8, 8), (0, 3, 5)))], box=(left, top, side, side), end_seconds=1.0)
    )
    assert frames.shape[1:3] == (height - height % 2, width - width % 2)
    outside = frames[2][-30:-20, -8:] if width > height else frames[2][-8:, -30:-20]
    assert outside.mean() == pytest.approx(GREY / 2, abs=4)


def test_for_and_against(tmp_path: Path) -> None:
    """What speaks for the label is orange, what speaks against it blue; where nothing does the video stays."""
    shares = hot((1, 4, 4), (0, 2, 0)) + hot((1, 4, 4), (0, 2, 3), share=-1.0)
    _, frames = drawn(tmp_path, encode(grey(128, 128)), view([([0.5], shares)], box=(0, 0, 128, 128)))
    heat = redness(frames[5])
    assert heat[72:88, 8:24].mean() > 60
    assert heat[72:88, 104:120].mean() < -60
    assert abs(heat[72:88, 60:68].mean()) < 6


def test_the_legend(tmp_path: Path) -> None:
    """The label and its score stand in the lower left corner, what the colours mean in the upper left one."""
    still = view([([0.5], hot((1, 4, 4)))], box=(0, 0, 320, 240))
    _, frames = drawn(tmp_path, encode(grey(320, 240)), still)
    changed = np.abs(frames[5].astype(int) - GREY).max(2) > 20
    assert changed[-18:, :100].mean() > 0.5
    assert changed[:10, :100].mean() > 0.5
    assert changed[60:180].mean() < 0.02  # the edges of the crop


def test_three_crops() -> None:
    """Each crop's map lies in its own box; where two windows overlap in time and place they are added up."""
    entries = [
        view([([0.5], hot((1, 4, 4), (0, 1, 1)))], box=(left, 0, 64, 64), crop=crop)
        for crop, left in enumerate((0, 64, 128))
    ]
    heat, seen = HeatMap(explanation(*entries)).rates((64, 192), 0.1)
    assert seen.all()
    for left in (0, 64, 128):
        y, x = np.unravel_index(heat[:, left : left + 64].argmax(), (64, 64))
        assert 16 <= y < 32
        assert 16 <= x < 32
    twice, _ = HeatMap(explanation(entries[0], {**entries[0], "window": 1})).rates((64, 192), 0.1)
    assert np.allclose(twice[:, :64], 2 * heat[:, :64])


@pytest.mark.parametrize("name", ["when.png", "when.svg"])
def test_the_curve(tmp_path: Path, name: str) -> None:
    """A picture is written in the format that its name asks for, for one pathway and for two."""
    one = ([0.5, 1.5], hot((2, 2, 2), (1, 0, 0)))
    for pathways in ([one], [one, ([0.25, 0.75, 1.25, 1.75], hot((4, 2, 2), (0, 1, 1)))]):
        plot_explanation(explanation(view(pathways)), tmp_path / name, "title")
        head = (tmp_path / name).read_bytes()[:200]
        assert head.startswith(b"\x89PNG") if name.endswith("png") else b"<?xml" in head


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    """A source that is no video, and a container that takes none, are refused by their names."""
    still = explanation(view([([0.5], hot((1, 4, 4)))]))
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    (tmp_path / "in.mp4").write_bytes(encode(grey(64, 64)))
    for source, output in (("no.mp4", "out.mp4"), ("in.mp4", "out.txt"), ("in.mp4", "no-folder/out.mp4")):
        with pytest.raises(Refused, match=source):
            heat_video(tmp_path / source, still, tmp_path / output)
