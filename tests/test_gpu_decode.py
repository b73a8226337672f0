"""Promise: what a GPU's own decoder gives are the CPU's views, also from many threads while the model runs.

`make test-gpu` runs these and fails where there is no GPU; `make test` leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Event

import numpy as np
import pytest
import torch
from actionrec.limits import DEFAULT_LIMITS
from actionrec.model import cuda
from actionrec.nvdec import GpuDecoder, check
from actionrec.sampling import Selection
from actionrec.video.decode import Decoded, windows
from numpy.typing import NDArray

from motion.model import MOTION_SPEC
from testing.media import encode, textured_frames, turn

pytestmark = pytest.mark.gpu


@cache
def frames() -> NDArray[np.uint8]:
    """A second and a half of 1080p, made only where the tests run."""
    return textured_frames(1920, 1080, 48)


@pytest.fixture(scope="module")
def gpu() -> GpuDecoder:
    """The GPU's decoder, checked. Where the driver has no video part, the tests are skipped and say so."""
    if not torch.cuda.is_available():
        pytest.fail("torch sees no CUDA device: these tests need one")
    made = GpuDecoder.load(MOTION_SPEC, cuda.make_current("cuda"), cuda.pinned)
    assert made is not None
    reasons = made.describe()["codecs"]
    if all("libnvcuvid" in reason for reason in reasons.values()):
        pytest.skip(f"no codec is decoded here: {reasons}")
    return made


def views_of(gpu: GpuDecoder, video: bytes, selection: Selection) -> list[Decoded]:
    """Views that the GPU must give."""

    def otherwise() -> Iterator[Decoded]:
        pytest.fail("the GPU gave the video up")
        yield

    return [*gpu.windows(video, MOTION_SPEC, selection, DEFAULT_LIMITS, otherwise())]


def assert_same(got: list[Decoded], expected: list[Decoded]) -> None:
    """Views differ by no more than the check allows."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert check.difference(other, one) is None


def test_codecs(gpu: GpuDecoder) -> None:
    """H.264 and HEVC of 8 bits are decoded right; others may be missing on older GPUs, with a reason."""
    codecs = gpu.describe()["codecs"]
    assert codecs["h264 8 bit"] == codecs["hevc 8 bit"] == "on", codecs


@pytest.mark.parametrize(
    "selection", [Selection(start_seconds=0.3), Selection(stride_seconds=0.25), Selection(views=2, crops=3)]
)
def test_views(selection: Selection, gpu: GpuDecoder) -> None:
    """Windows and crops of a video with B-frames and of one that is turned are the CPU's."""
    upright = encode(frames(), options={"bf": "2", "g": "24", "preset": "ultrafast"})
    for video in (upright, turn(upright, 90)):
        expected = [*windows(video, MOTION_SPEC, selection, DEFAULT_LIMITS)]
        assert_same(views_of(gpu, video, selection), expected)


def test_many_threads_beside_a_busy_gpu(gpu: GpuDecoder) -> None:
    """Frames are whole while others are decoded and the GPU computes something else all the time."""
    videos = [encode(frames()[n:], options={"preset": "ultrafast"}) for n in range(6)]
    expected = [[*windows(video, MOTION_SPEC, Selection(), DEFAULT_LIMITS)] for video in videos]
    stop = Event()

    def busy() -> None:
        matrix = torch.ones(4096, 4096, device="cuda", dtype=torch.float16)
        while not stop.is_set():
            matrix = torch.tanh(matrix @ matrix)
            torch.cuda.current_stream().synchronize()

    with ThreadPoolExecutor(9) as pool:
        computing = pool.submit(busy)
        try:
            for _ in range(3):
                found = [*pool.map(lambda video: views_of(gpu, video, Selection()), videos)]
                for got, right in zip(found, expected, strict=True):
                    assert_same(got, right)
        finally:
            stop.set()
        computing.result()


def test_frames_lie_in_pinned_memory(gpu: GpuDecoder) -> None:
    """Views can be copied to the model without another copy on the host."""
    (view,) = views_of(gpu, encode(frames(), options={"preset": "ultrafast"}), Selection())
    assert torch.from_numpy(np.asarray(view.frames)).is_pinned()
