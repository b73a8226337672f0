"""Promise: a GPU that decodes gives the CPU's views; what it does not take, or gives up, the CPU decodes."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS
from actionrec.nvdec import GpuDecoder, check
from actionrec.nvdec.hardware import Planes
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection
from actionrec.video.decode import Decoded, windows
from rich.console import Console

from export.build import build
from export.errors import ExportError
from export.order import Order, check_decode
from testing.media import encode, textured_frames, turn
from tests.conftest import PROJECT
from tests.helpers_nvdec import QUIET, SIZE, SPEC, PlayedNvdec

pytest_plugins = ("tests.fixtures_nvdec",)
pytestmark = pytest.mark.usefixtures("small_videos", "one_thread")

FRAMES = textured_frames(*SIZE, 90)


@pytest.fixture(scope="module")
def video() -> bytes:
    return encode(FRAMES, options={"bf": "2", "g": "15"})


def on_cpu(video: bytes, selection: Selection) -> list[Decoded]:
    return [*windows(video, SPEC, selection, DEFAULT_LIMITS)]


def nobody() -> Iterator[Decoded]:
    """What must not be asked."""
    pytest.fail("the CPU was asked")
    yield


def on_gpu(gpu: GpuDecoder, video: bytes, selection: Selection, otherwise: Iterator[Decoded]) -> list[Decoded]:
    return [*gpu.windows(video, SPEC, selection, DEFAULT_LIMITS, otherwise)]


def assert_same(got: Sequence[Decoded], expected: Sequence[Decoded]) -> None:
    """Views are the same, to the last step of their pixels."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert check.difference(other, one) is None
        assert (one.start_seconds, one.end_seconds, one.crop) == (
            other.start_seconds,
            other.end_seconds,
            other.crop,
        )
        assert one.shot_boundaries == other.shot_boundaries
        assert np.abs(one.frames.astype(int) - other.frames).max() <= 1


SELECTIONS = {
    "one window": Selection(start_seconds=0.7),
    "three crops": Selection(crops=3),
    "windows that share frames": Selection(stride_seconds=0.2),
    "views spread over the video": Selection(views=3, crops=3),
}


@pytest.mark.parametrize("name", [*SELECTIONS])
def test_views_are_those_of_the_cpu(name: str, gpu: GpuDecoder, video: bytes) -> None:
    """The same frames at the same times, for all that a request may ask for."""
    selection = SELECTIONS[name]
    assert_same(on_gpu(gpu, video, selection, nobody()), on_cpu(video, selection))
    assert (gpu.describe()["taken"], gpu.describe()["left_to_cpu"]) == (1, 0)


VIDEOS = {
    "variable rate": {"times": [0.02 * n + (0.3 if n > 40 else 0) for n in range(90)]},
    "hevc": {"codec": "libx265", "options": QUIET},
    "hevc of 10 bits": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": QUIET},
    "vp9": {"codec": "libvpx-vp9", "container": "webm", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mpeg-ts": {"container": "mpegts", "options": {"bf": "2"}},
    "avi, whose times are guessed": {"container": "avi", "options": {"bf": "2"}},
    "a bare stream": {"container": "h264", "options": {"bf": "2"}},
}


@pytest.mark.parametrize("name", [*VIDEOS])
def test_videos_are_those_of_the_cpu(name: str, gpu: GpuDecoder) -> None:
    """Whatever holds a video and however it is timed, its frames are chosen by the same code."""
    made = encode(FRAMES, **VIDEOS[name])  # type: ignore[arg-type]
    for selection in (Selection(start_seconds=0.5), Selection(stride_seconds=0.5)):
        assert_same(on_gpu(gpu, made, selection, nobody()), on_cpu(made, selection))


def test_phones_clips(gpu: GpuDecoder, video: bytes) -> None:
    """A clip that is turned by its file's matrix comes upright, with its sides exchanged."""
    turned = turn(video, 90)
    views = on_gpu(gpu, turned, Selection(), nobody())
    assert (views[0].width, views[0].height) == SIZE[::-1]
    assert_same(views, on_cpu(turned, Selection()))


FOR_THE_CPU = {
    "small": encode(FRAMES[:20, ::2, ::2]),
    "another codec": encode(FRAMES[:20], codec="mpeg4", container="avi"),
    "h264 of 10 bits": encode(FRAMES[:20], pix_fmt="yuv420p10le"),
    "4:4:4": encode(FRAMES[:20], codec="libx265", pix_fmt="yuv444p", options=QUIET),
    "interlaced": encode(FRAMES[:20], options={"flags": "+ildct+ilme", "x264-params": "tff=1"}),
}


@pytest.mark.parametrize("name", [*FOR_THE_CPU])
def test_what_the_gpu_does_not_take(name: str, gpu: GpuDecoder) -> None:
    """Small videos, other codecs and frames that would come out otherwise are decoded on the CPU."""
    made = FOR_THE_CPU[name]
    expected = on_cpu(made, Selection())
    views = on_gpu(gpu, made, Selection(), iter(expected))
    assert views[0] is expected[0]
    assert (gpu.describe()["taken"], gpu.describe()["left_to_cpu"]) == (0, 1)


def test_small_videos_do_not_reach_the_gpu(gpu: GpuDecoder, played: PlayedNvdec) -> None:
    """A small video is told by its header: no decoder is set up for it."""
    opened = played.opened_files
    on_gpu(gpu, FOR_THE_CPU["small"], Selection(), iter(()))
    assert played.opened_files == opened


def test_damaged_videos(gpu: GpuDecoder, video: bytes) -> None:
    """A GPU fills gaps in its own way: a damaged video is the CPU's, with its warnings."""
    damaged = bytearray(video)
    middle = len(damaged) // 2
    damaged[middle : middle + 400] = bytes(400)
    expected = on_cpu(bytes(damaged), Selection(stride_seconds=0.3))
    assert any(warning.key == "corrupt_frames" for view in expected for warning in view.warnings)
    views = on_gpu(gpu, bytes(damaged), Selection(stride_seconds=0.3), iter(expected))
    assert [view.warnings for view in views] == [view.warnings for view in expected]
    assert gpu.describe()["left_to_cpu"] == 1


def test_bytes_that_are_no_video(gpu: GpuDecoder) -> None:
    """What is refused is refused by the CPU's way, in its own words."""
    with pytest.raises(ClipError) as expected:
        on_cpu(b"no video at all", Selection())
    with pytest.raises(ClipError) as refused:
        on_gpu(
            gpu, b"no video at all", Selection(), windows(b"no video at all", SPEC, Selection(), DEFAULT_LIMITS)
        )
    assert refused.value.to_dict() == expected.value.to_dict()


def test_gpu_that_fails_on_the_way(
    gpu: GpuDecoder, played: PlayedNvdec, video: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the GPU gives up after some windows, the CPU's way gives the rest, and no window comes twice."""
    selection = Selection(stride_seconds=0.4)
    expected = on_cpu(video, selection)
    count = played.frames

    def failing(planes: Planes) -> Planes:
        if played.frames > count + 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return planes

    played.change = failing
    with caplog.at_level(logging.INFO):
        views = on_gpu(gpu, video, selection, iter(expected))
    assert 0 < sum(one is not other for one, other in zip(views, expected, strict=True)) < len(views)
    assert_same(views, expected)
    assert "The GPU gives up a video" in caplog.text
    assert "CUDA out of memory" in caplog.text


def test_model_on_a_cpu(caplog: pytest.LogCaptureFixture, motion_unpacked: Path) -> None:
    """Where the model runs on a CPU, nothing is decoded elsewhere; the log says so. Other words are refused."""
    classifier = Classifier.load(motion_unpacked, decode="gpu")
    assert "decode: gpu has no effect: the model runs on cpu" in caplog.text
    assert classifier.describe()["decode"] == "cpu"
    classifier.close()
    with pytest.raises(ValueError, match="decode must be cpu or gpu, got 'nvdec'"):
        Classifier.load(motion_unpacked, decode="nvdec")


@pytest.mark.parametrize("sandbox", [True, False])
def test_classifier(sandbox: bool, motion_unpacked: Path, played: PlayedNvdec) -> None:
    """A request is answered with the same scores, whoever decodes its video; small ones go into the sandbox."""
    plain = Classifier.load(motion_unpacked)
    gpu = GpuDecoder(plain.manifest.spec, played, plain.runtime.memory)
    with_gpu = Classifier(plain.manifest, plain.runtime, decode_threads=1, sandbox=sandbox, gpu_decoder=gpu)
    requests = [ClipRequest(encode(FRAMES)), ClipRequest(FOR_THE_CPU["small"]), ClipRequest(b"no video")]
    try:
        for expected, got in zip(plain.classify(requests), with_gpu.classify(requests), strict=True):
            if isinstance(expected, ClipError):
                assert isinstance(got, ClipError)
                assert got.to_dict() == expected.to_dict()
            else:
                assert isinstance(got, Prediction)
                assert np.allclose(got.scores, expected.scores, atol=1e-3)
        described = with_gpu.describe()["decode"]
        assert (described["taken"], described["left_to_cpu"]) == (1, 2)
    finally:
        with_gpu.close()
        plain.close()


@pytest.mark.parametrize(
    ("order", "device", "said"),
    [
        (Order(decode="gpu", sandbox="require"), "cuda", "SANDBOX=require insists"),
        (Order(decode="gpu"), "cpu", "this archive is for a CPU"),
        (Order(decode="gpu"), "cuda", None),
        (Order(sandbox="require"), "cpu", None),
    ],
)
def test_what_a_build_refuses(order: Order, device: str, said: str | None) -> None:
    """DECODE=gpu contradicts SANDBOX=require, and a model on a CPU; the build says so at its beginning."""
    if said is None:
        check_decode(order, device)
        return
    with pytest.raises(ExportError, match=said):
        check_decode(order, device)


def test_build_for_a_cpu(tmp_path: Path) -> None:
    """`make archive DECODE=gpu` without a GPU writes no archive."""
    with pytest.raises(ExportError, match="DECODE=gpu is for a model that runs on a GPU"):
        build(Order(model="motion", device="cpu", decode="gpu", store=tmp_path), Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_children_know_nothing_of_it() -> None:
    """Decoding children import no torch, and so no decoder of a GPU."""
    code = (
        "import actionrec.sandbox.zygote, sys; print('torch' in sys.modules, 'actionrec.nvdec' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT / "handler",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == ["False", "False"]
