"""Promise: a GPU decodes what it is seen to decode right on this host, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from actionrec.limits import DEFAULT_LIMITS
from actionrec.nvdec import GpuDecoder, check, decoder
from actionrec.nvdec.hardware import Nvdec, Planes
from actionrec.sampling import Selection
from actionrec.video.container import Source
from actionrec.video.decode import Decoded, windows
from av.codec.hwaccel import HWAccel

from testing.media import encode, textured_frames
from tests.helpers_nvdec import SIZE, SPEC, PlayedNvdec

pytest_plugins = ("tests.fixtures_nvdec",)
pytestmark = pytest.mark.usefixtures("small_videos", "one_thread")


@pytest.fixture(scope="module")
def video() -> bytes:
    return encode(textured_frames(*SIZE, 30))


def on_cpu(video: bytes) -> Decoded:
    (view,) = windows(video, SPEC, Selection(), DEFAULT_LIMITS)
    return view


def first_view(gpu: GpuDecoder, video: bytes, otherwise: Iterator[Decoded]) -> Decoded:
    return next(gpu.windows(video, SPEC, Selection(), DEFAULT_LIMITS, otherwise))


def test_check_accepts_what_is_right(gpu: GpuDecoder) -> None:
    """A decoder whose frames are the CPU's takes all kinds, and the description says so."""
    described = gpu.describe()
    assert described["codecs"] == {kind.name: "on" for kind in check.KINDS}
    assert described["from_pixels"] == decoder.LEAST_PIXELS


def swapped(planes: Planes) -> Planes:
    luma, chroma = planes
    return luma, chroma.flip(-1)


def shifted(planes: Planes) -> Planes:
    luma, chroma = planes
    return luma.roll(4, 1), chroma.roll(2, 1)


def broken(_: Planes) -> Planes:
    raise RuntimeError("CUDA error: no kernel image is available")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swapped, "its frames differ from the CPU's by"),
        (shifted, "its frames differ"),
        (broken, "no kernel image"),
    ],
)
def test_check_refuses_what_is_wrong(
    change: Callable[[Planes], Planes], said: str, video: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A decoder whose frames are others, or that fails, gets no video; log and description say why."""
    gpu = GpuDecoder(SPEC, PlayedNvdec(change))
    reasons = gpu.describe()["codecs"]
    assert all(said in reason for reason in reasons.values())
    assert f"The GPU does not decode h264 8 bit: {reasons['h264 8 bit']}" in caplog.text
    expected = on_cpu(video)
    assert first_view(gpu, video, iter([expected])) is expected


def test_one_kind_that_is_refused(video: bytes) -> None:
    """What goes wrong with one kind costs the others nothing."""

    def deep_is_wrong(planes: Planes) -> Planes:
        return shifted((planes[0].int(), planes[1].int())) if planes[0].dtype != torch.uint8 else planes

    gpu = GpuDecoder(SPEC, PlayedNvdec(deep_is_wrong))
    on = {name for name, state in gpu.describe()["codecs"].items() if state == "on"}
    assert on == {kind.name for kind in check.KINDS if kind.bits == 8}
    assert first_view(gpu, video, iter(())).source_frames == 16


def test_kind_without_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that no clip can be made of is not decoded on the GPU, for nothing could show that it is right."""
    monkeypatch.setattr(check, "KINDS", (check.Kind("h264", 8, "no_such_encoder"),))
    (reason,) = GpuDecoder(SPEC, PlayedNvdec()).describe()["codecs"].values()
    assert "there is no no_such_encoder" in reason


@pytest.mark.parametrize("field", ["frame_seconds", "width", "source_frames"])
def test_check_compares_more_than_pixels(field: str, video: bytes) -> None:
    """Frames at other times, or of another size, are others, whatever they show."""
    view = on_cpu(video)
    other: dict[str, Any] = {field: (9.0,) if field == "frame_seconds" else 9}
    reason = check.difference(view, replace(view, **other))
    assert reason is not None
    assert f"its {field} are" in reason


def test_how_files_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are opened for the worker's GPU, in torch's context. The thread that opens one has that context by
    then.
    """
    made: list[torch.device] = []
    monkeypatch.setattr(torch, "zeros", lambda *_, device: made.append(device))
    nvdec = Nvdec(torch.device("cuda", 1))
    assert made == []
    hardware = nvdec.opened()
    assert made == [torch.device("cuda", 1)]
    assert isinstance(hardware, HWAccel)
    assert (hardware.device_id, hardware.is_hw_owned) == (1, True)
    assert not hardware.allow_software_fallback  # type: ignore[attr-defined]
    assert hardware.options == {"primary_ctx": "0", "current_ctx": "1"}


def test_host_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real decoder and no driver each kind is refused with FFmpeg's reason, and the CPU decodes."""
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    gpu = GpuDecoder(SPEC, Nvdec(torch.device("cuda", 0)))
    assert all("libnvcuvid" in reason for reason in gpu.describe()["codecs"].values())


def test_each_opening_asks_for_the_hardware(video: bytes) -> None:
    """A file that is opened anew, as after a search for its packets, is opened the same way again."""
    asked: list[None] = []
    with Source(video, hardware=lambda: asked.append(None)) as source:
        source.rewind()
    assert len(asked) == 2
