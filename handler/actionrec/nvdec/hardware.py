"""NVDEC through PyAV: the FFmpeg in it hands packets to NVIDIA's decoder, and frames stay in the GPU's memory.

    file -> FFmpeg's demuxer and parser -> NVDEC -> NV12, or P016 beyond 8 bits -> tensors, without a copy

Not torchcodec: its frames are RGB, in colours of its own, at times of its own, and its packages with CUDA are
not where the others are. Nor PyNvVideoCodec: it would need another demuxer, or packets put together by hand.
Here the code that reads packets and chooses frames is the CPU's, and nothing more is installed. **This has not
run on a GPU yet.**
"""

from __future__ import annotations

from typing import Protocol

import torch
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from ..video.acceleration import NotTakenError

Planes = tuple[Tensor, Tensor]
"""Luma [H, W] and chroma [H / 2, W / 2, 2], uint8, or uint16 with the bits at the top, on the device."""


class Hardware(Protocol):
    """A decoder, and where its frames are."""

    device: torch.device

    def opened(self) -> HWAccel | None:
        """What PyAV opens a file with, in the thread that opens it."""

    def planes(self, frame: VideoFrame) -> Planes:
        """A decoded frame's planes, valid as long as they are referred to.

        Raises:
            NotTakenError: it has others.
        """


class Nvdec:
    """The decoder of one GPU.

    Args:
        device: the GPU, with its number.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # In torch's context, where frames are tensors. FFmpeg takes it as the thread's current one: asked for
        # the device's own it fails, since torch has made that with other flags (PyAV's pull request 2339).
        self._hardware = HWAccel(
            "cuda",
            device=str(device.index),
            allow_software_fallback=False,
            options={"primary_ctx": "0", "current_ctx": "1"},
            is_hw_owned=True,
        )

    def opened(self) -> HWAccel | None:
        """What PyAV opens a file with; makes torch's context this thread's."""
        # A thread has no context before it has used one, and an empty tensor uses none.
        torch.zeros(1, device=self.device)
        return self._hardware

    def planes(self, frame: VideoFrame) -> Planes:
        """The planes where NVDEC has put them.

        They are written by CUDA's default stream, which is torch's as well: what reads them comes after it, and
        what reuses their memory comes after that.
        """
        kind = frame.sw_format
        if kind is None or kind.name not in ("nv12", "p010le", "p016le"):
            raise NotTakenError(f"its frames are {kind.name if kind else frame.format.name}")
        # As capsules: PyAV takes no stream, and torch would name one.
        luma, chroma = (from_dlpack(plane.__dlpack__()) for plane in frame.planes)
        return luma, chroma
