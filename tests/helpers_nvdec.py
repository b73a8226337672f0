"""NVDEC played by the CPU: FFmpeg's own decoders, whose frames are given out as NVDEC lays them out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from actionrec.nvdec.hardware import Planes
from actionrec.spec import ClipSpec
from actionrec.video.acceleration import NotTakenError
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame

SPEC = ClipSpec(pathways=(8, 8), sampling_rate=2, short_side=64, crop=64)
SIZE = 160, 120
"""Width and height that count as large in these tests."""
QUIET = {"x265-params": "log-level=none"}


class PlayedNvdec:
    """A `nvdec.hardware.Hardware`.

    Args:
        change: is done to a frame's planes, as a decoder would that gets something wrong.
    """

    def __init__(self, change: Callable[[Planes], Planes] = lambda planes: planes) -> None:
        self.device = torch.device("cpu")
        self.change = change
        self.opened_files = 0
        self.frames = 0

    def opened(self) -> HWAccel | None:
        self.opened_files += 1
        return None

    def planes(self, frame: VideoFrame) -> Planes:
        self.frames += 1
        return self.change(planes_of(frame))


def planes_of(frame: VideoFrame) -> Planes:
    """A frame of the CPU's as NV12, or as P010 beyond 8 bits; others are refused, as by the real one."""
    if frame.format.name not in ("yuv420p", "yuvj420p", "yuv420p10le"):
        raise NotTakenError(f"its frames are {frame.format.name}")
    deep = frame.format.name.endswith("10le")
    kind = np.uint16 if deep else np.uint8
    again = frame.reformat(format="p010le" if deep else "nv12")
    luma, chroma = (
        np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : frame.width].copy()
        for plane in again.planes
    )
    return torch.from_numpy(luma), torch.from_numpy(chroma.reshape(len(chroma), -1, 2))
