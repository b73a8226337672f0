"""Frames to the model's size and colours in torch, on the device that they are on, as `video.resize` on a CPU.

    luma, chroma -> the four pixels around each that is wanted -> RGB -> bilinear -> turned -> crops

The colours are swscale's on x86, with its roundings: so the result is the CPU's, to the step of 1/128 level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from ..sampling import crop_corners, scaled_size
from ..spec import STEPS_PER_LEVEL, ClipSpec
from ..video.acceleration import NotTakenError
from ..video.resize import Pixels
from .hardware import Planes

_BT2020 = 9
_BT601 = (0.299, 0.114)
_MATRICES = {
    **dict.fromkeys((0, 2, 5, 6), _BT601),
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    7: (0.212, 0.087),
    _BT2020: (0.2627, 0.0593),
}
"""Kr and Kb of the color spaces that `video.resize` converts, by their numbers in ITU-T H.273; those that say
nothing count as BT.601, as they do there."""
_FULL_RANGE = 2


class PlaneConverter:
    """Converts frames of any size, matrix, range and rotation by quarter turns: a `conversion.Converter`.

    Args:
        spec: short side and crop.
        crops: of each frame; see `sampling.crop_corners`.
        planes: gives a frame's planes.
        device: where they are.
        check: is given each frame before that; raises NotTakenError for one for the CPU.
    """

    def __init__(
        self,
        spec: ClipSpec,
        crops: int,
        planes: Callable[[VideoFrame], Planes],
        device: torch.device,
        check: Callable[[VideoFrame], object] = bool,
    ) -> None:
        self._spec = spec
        self._crops = crops
        self._planes = planes
        self._check = check
        self._device = device
        self._size = (0, 0)
        self._written: list[Sequence[Pixels]] = []
        self.shown = (0, 0)
        """(width, height) of the last frame as shown, in pixels."""

    @torch.inference_mode()
    def write(self, frame: VideoFrame, places: Sequence[Pixels]) -> None:
        """Start to convert a frame into arrays, int16 [crops, crop, crop, 3] each; `finish` waits for them.

        Raises:
            NotTakenError: it is a frame for the CPU.
        """
        self._check(frame)
        width, height = frame.width, frame.height
        if width % 2 or height % 2:
            raise NotTakenError(f"its frames have {width} x {height} pixels, and one of these is odd")
        if frame.interlaced_frame:
            raise NotTakenError("it is interlaced")
        space = int(frame.colorspace)
        if space not in _MATRICES:
            raise NotTakenError(f"its color space is {space}")
        with self._current():
            if self._size != (width, height):
                self._plan(width, height)
                self._size = (width, height)
            luma, chroma = self._planes(frame)
            if space == _BT2020 and luma.dtype != torch.uint8:
                raise NotTakenError("PyAV does not say where the chroma of BT.2020 lies")
            resized = self._resized(luma, chroma, _Colors.of(frame))
            turned = torch.rot90(resized, k=frame.rotation // 90)
            crop = self._spec.crop
            corners = crop_corners(turned.shape[0], turned.shape[1], crop, self._crops)
            for number, (top, left) in enumerate(corners):
                pixels = turned[top : top + crop, left : left + crop].contiguous()
                for place in places:
                    torch.from_numpy(place[number]).copy_(pixels, non_blocking=True)
        self._written.append(places)
        self.shown = (width, height) if frame.rotation % 180 == 0 else (height, width)

    def finish(self) -> None:
        """Wait until all arrays are written."""
        if self._written and self._device.type == "cuda":
            with self._current():
                done = torch.cuda.Event()  # type: ignore[no-untyped-call]
                done.record()
                done.synchronize()
        self._written.clear()

    def _current(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _plan(self, width: int, height: int) -> None:
        """Set up for frames of this size, in pixels."""
        size = scaled_size(width, height, self._spec.short_side)
        self._across = _Neighbours.of(width, size[0], self._device)
        self._down = _Neighbours.of(height, size[1], self._device)

    def _resized(self, luma: Tensor, chroma: Tensor, colors: _Colors) -> Tensor:
        """Planes -> the whole resized frame, int16 [H, W, 3], RGB in steps of 1/128 level."""
        rows, columns = self._down.places, self._across.places
        y = _taken(luma, rows, columns)
        uv = _taken(chroma, rows // 2, columns // 2)
        if luma.dtype == torch.uint8:
            rgb = colors.rgb(y, uv)
        else:
            # Here swscale puts chroma where its samples lie: on the left of two columns, and between two rows.
            # It goes on with whole levels.
            height, width = chroma.shape[:2]
            down = (rows // 2 + (rows % 2) * 2 - 1).clamp(0, height - 1)
            right = (columns // 2 + 1).clamp(max=width - 1)
            beside = _taken(chroma, rows // 2, right) + _taken(chroma, down, columns // 2)
            uv = (9 * uv + 3 * beside + _taken(chroma, down, right) + 2048) >> 12
            rgb = colors.rgb_of_more_bits((y + 128) >> 8, uv)
        before, after = rgb.float().chunk(2, 1)
        upper, lower = torch.lerp(before, after, self._across.weight[:, None]).chunk(2, 0)
        mixed = torch.lerp(upper, lower, self._down.weight[:, None, None])
        return (mixed * STEPS_PER_LEVEL).round().to(torch.int16)


def _taken(plane: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Some rows and columns of a plane, int32."""
    if plane.dtype == torch.uint8:
        return plane.index_select(0, rows).index_select(1, columns).int()
    # torch can do little with uint16.
    return plane.view(torch.int16).index_select(0, rows).index_select(1, columns).int() & 0xFFFF


@dataclass(frozen=True)
class _Neighbours:
    """Along one side: between which pixels of a frame each pixel of the result lies."""

    places: Tensor
    """int64 [2 N]: the pixel before each of the N, then the pixel after each."""
    weight: Tensor
    """float32 [N]: that of the pixel after."""

    @classmethod
    def of(cls, source: int, target: int, device: torch.device) -> _Neighbours:
        """The neighbours for a side of `source` pixels, resized to `target`.

        The same positions as F.interpolate(mode="bilinear", align_corners=False) and `video.resize`.
        """
        position = ((np.arange(target) + 0.5) * (source / target) - 0.5).clip(0, source - 1)
        before = position.astype(np.int64)
        places = np.concatenate([before, (before + 1).clip(max=source - 1)])
        weight = (position - before).astype(np.float32)
        return cls(torch.from_numpy(places).to(device), torch.from_numpy(weight).to(device))


@dataclass(frozen=True)
class _Colors:
    """YUV to RGB in whole numbers, as swscale does it for a matrix and a range."""

    luma: float
    """Levels of RGB for a level of luma."""
    black: int
    """Level of black."""
    red_v: float
    green_u: float
    green_v: float
    blue_u: float

    @classmethod
    def of(cls, frame: VideoFrame) -> _Colors:
        """Those of a frame."""
        kr, kb = _MATRICES[int(frame.colorspace)]
        kg = 1 - kr - kb
        full = int(frame.color_range) == _FULL_RANGE
        chroma = 1 if full else 255 / 224
        green_u, green_v = -2 * kb * (1 - kb) / kg * chroma, -2 * kr * (1 - kr) / kg * chroma
        red_v, blue_u = 2 * (1 - kr) * chroma, 2 * (1 - kb) * chroma
        return cls(1 if full else 255 / 219, 0 if full else 16, red_v, green_u, green_v, blue_u)

    def rgb(self, y: Tensor, uv: Tensor) -> Tensor:
        """Levels, int32 [H, W] and [H, W, 2] -> RGB, int32 [H, W, 3]: each product by itself, rounded down."""

        def times(levels: Tensor, factor: float) -> Tensor:
            return (levels << 3) * round(factor * 8192) >> 16

        grey = times(y - self.black, self.luma)
        u, v = (uv - 128).unbind(-1)
        green = grey + times(u, self.green_u) + times(v, self.green_v)
        rgb = torch.stack([grey + times(v, self.red_v), green, grey + times(u, self.blue_u)], -1)
        return rgb.clamp(0, 255)

    def rgb_of_more_bits(self, y: Tensor, uv: Tensor) -> Tensor:
        """The same as swscale does it beyond 8 bits: chroma is added to luma, in whole levels of it."""
        luma = round(self.luma * 65536)

        def levels(chroma: Tensor, factor: float) -> Tensor:
            step = int((round(factor * 65536) * 65536 + 0x8000) / luma)
            return (chroma * step >> 16) - (step >> 9)

        u, v = uv.unbind(-1)
        green = levels(u, self.green_u) + levels(v, self.green_v)
        sums = torch.stack([y + levels(v, self.red_v), y + green, y + levels(u, self.blue_u)], -1)
        # 384 and 326 are places in swscale's table of greys, in which black is not quite at its own level.
        start = (326 if self.black else 384) * luma - ((384 + self.black) << 16) + 0x8000
        return (sums * luma + start >> 16).clamp(0, 255)
