"""Decoded frame -> pixels at the model's size: RGB, short side, rotation, centre crop."""

from __future__ import annotations

import math
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from .sampling import crop_corners
from .spec import STEPS_PER_LEVEL, ClipSpec

Pixels = npt.NDArray[np.int16]
"""RGB in steps of 1/128 level: see `STEPS_PER_LEVEL`."""

_SHIFT = STEPS_PER_LEVEL.bit_length() - 1


class Resizer:
    """Turns decoded frames of any size, pixel format and rotation into the model's.

    Args:
        spec: short side and crop.
        crops: 1: the centre; 3: both ends of the longer side and the middle.
    """

    def __init__(self, spec: ClipSpec, crops: int = 1) -> None:
        self._spec = spec
        self._crops = crops
        # One for the whole clip: each new one costs a scaler set-up per frame.
        self._reformatter = VideoReformatter()
        self._wide = np.empty((0, 0, 3), dtype=np.int16)
        self.shown = (0, 0)
        """(width, height) of the last frame as shown, in pixels."""

    def __call__(self, frame: VideoFrame) -> Pixels:
        """Convert one frame.

        Returns:
            int16 [crops, crop, crop, 3], RGB, upright; may be a view, to be copied where it is kept.
        """
        plane = self._reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
        height, width = plane.height, plane.width
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(height, plane.line_size)
        rgb = rows[:, : width * 3].reshape(height, width, 3)
        self.shown = (width, height) if frame.rotation % 180 == 0 else (height, width)
        turned = np.rot90(self._resize(rgb), k=frame.rotation // 90)
        crop = self._spec.crop
        corners = crop_corners(turned.shape[0], turned.shape[1], crop, self._crops)
        cut = [turned[top : top + crop, left : left + crop] for top, left in corners]
        return cut[0][None] if len(cut) == 1 else np.stack(cut)

    def _resize(self, rgb: npt.NDArray[np.uint8]) -> Pixels:
        """uint8 [H, W, 3] -> int16 with the short side that the model wants; right where the crop will be."""
        height, width = rgb.shape[:2]
        side = self._spec.short_side
        # The longer side is cut, not rounded, as pytorchvideo's short_side_scale does.
        size = (side, int(height / width * side)) if width < height else (int(width / height * side), side)
        if self._wide.shape != rgb.shape:
            self._wide = np.zeros(rgb.shape, dtype=np.int16)
        # What the crop does not read need not be widened: of 16:9 that is almost half.
        used = (self._used(height, size[1]), self._used(width, size[0]))
        np.left_shift(rgb[used], _SHIFT, out=self._wide[used], dtype=np.int16)
        if size == (width, height):
            return self._wide
        # The same positions and weights as F.interpolate(mode="bilinear", align_corners=False).
        return cast(Pixels, cv2.resize(self._wide, size, interpolation=cv2.INTER_LINEAR))

    def _used(self, source: int, target: int) -> slice:
        """Which of `source` pixels along one axis the crops of the `target` resized ones read."""
        if self._crops > 1:
            return slice(0, source)
        scale = source / target
        spare = (target - self._spec.crop) / 2
        # One target pixel more at either end: the crop starts at a whole pixel.
        first = math.floor((spare - 1) * scale) - 1
        last = math.ceil((target - spare + 1) * scale) + 1
        return slice(max(first, 0), min(last, source))
