"""Promise: the model sees what pytorchvideo's own pipeline would show it, to a hundredth of a level."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.model.transform import pack
from actionrec.spec import ClipSpec
from actionrec.video.decode import decode

from export import zoo
from testing.media import encode, textured_frames
from testing.reference import reference_pathways
from tests.conftest import SHARED_DATA

REAL = sorted((SHARED_DATA / "real").glob("*.m*"))
GENERATED = {
    "320x240": (320, 240, {}),
    "1280x720": (1280, 720, {"g": "12", "bf": "2"}),
    "1920x1080": (1920, 1080, {"g": "250", "bf": "0", "preset": "ultrafast"}),
    "portrait": (240, 426, {"bf": "3"}),
    "odd": (322, 182, {}),
}
LARGE = {"1280x720", "1920x1080"}
"""Of those: the reference needs seconds and gigabytes for them."""


@cache
def generated(name: str) -> bytes:
    """A clip of three seconds."""
    width, height, options = GENERATED[name]
    return encode(textured_frames(width, height, 90), options=options)


def assert_equal_within_rounding(video: bytes, spec: ClipSpec, start_seconds: float) -> None:
    ours = pack(torch.from_numpy(decode(video, spec, start_seconds).frames)[None], spec)
    for mine, theirs in zip(ours, reference_pathways(video, spec, start_seconds), strict=True):
        # Back to pixel units, 0..255.
        difference = ((mine[0] - theirs).abs() * torch.tensor(spec.std).view(3, 1, 1, 1) * 255).numpy()
        assert mine.shape[1:] == theirs.shape
        assert difference.mean() <= 0.01
        assert difference.max() <= 0.05


@pytest.mark.parametrize("start_seconds", [0.0, 0.4])
@pytest.mark.parametrize("path", REAL or [None], ids=lambda p: p.name if p else "absent")
def test_real_clips(path: Path | None, start_seconds: float) -> None:
    """Each real clip gives the reference's [slow, fast], from its start and from inside."""
    if path is None:
        pytest.skip("no folder of real clips beside this checkout (../shared/data/real)")
    assert_equal_within_rounding(path.read_bytes(), ClipSpec(), start_seconds)


@pytest.mark.parametrize("start_seconds", [0.0, 0.7])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in LARGE else ()) for name in GENERATED]
)
def test_generated_clips(name: str, start_seconds: float) -> None:
    """Generated clips from 320x240 to 1080p, every GOP and shape, give the reference's [slow, fast]."""
    assert_equal_within_rounding(generated(name), ClipSpec(), start_seconds)


@pytest.mark.parametrize(
    "spec", [ClipSpec(short_side=224, crop=224), ClipSpec(pathways=(16, 64)), ClipSpec(sampling_rate=1)]
)
def test_other_recipes(spec: ClipSpec) -> None:
    """Another crop, number of frames or rate is another ClipSpec, and still the reference."""
    assert_equal_within_rounding(encode(textured_frames(426, 240, 150), fps=29.97), spec, 0.0)


@pytest.mark.parametrize("name", ["slow_r50", "x3d_s", "x3d_m"])
def test_models_with_one_pathway(name: str) -> None:
    """Each such model has all of its frames in its one pathway, in its own size and rate, as the reference."""
    video = encode(textured_frames(426, 240, 150), fps=29.97, options={"bf": "2"})
    assert_equal_within_rounding(video, zoo.get(name).spec, 0.4)


def test_variable_frame_rate() -> None:
    """Frames are chosen by timestamp, so a clip whose rate changes is sampled as the reference samples it."""
    gaps = np.where(np.arange(120) % 3 == 0, 0.05, 0.02)
    times = np.concatenate([[0.0], np.cumsum(gaps)[:-1]]).tolist()
    video = encode(textured_frames(320, 240, 120), times=times)
    assert_equal_within_rounding(video, ClipSpec(), 0.5)
