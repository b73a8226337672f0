"""Decoded frame -> uint8 pixels at the model's size: RGB, short side, rotation, centre crop."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from .spec import ClipSpec

Frames = npt.NDArray[np.uint8]


class Resizer:
    """Decoded frame -> uint8 [crop, crop, 3] RGB, upright."""

    def __init__(self, spec: ClipSpec) -> None:
        self._spec = spec
        # One for the whole clip: each new one costs a scaler set-up per frame.
        self._reformatter = VideoReformatter()
        self.shown = (0, 0)
        """(width, height) of the last frame as shown."""

    def __call__(self, frame: VideoFrame) -> Frames:
        """Convert one frame of any size, pixel format and rotation.

        The result may share memory with nothing, but is a view: copy it where it is kept.
        """
        plane = self._reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
        height, width = plane.height, plane.width
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(height, plane.line_size)
        rgb = rows[:, : width * 3].reshape(height, width, 3)
        side, crop = self._spec.short_side, self._spec.crop
        # The longer side is cut, not rounded, as pytorchvideo's short_side_scale does.
        size = (side, int(height / width * side)) if width < height else (int(width / height * side), side)
        resized = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
        turned = np.rot90(resized, k=frame.rotation // 90)
        self.shown = (width, height) if frame.rotation % 180 == 0 else (height, width)
        # Rounded half to even, as torchvision's centre crop does.
        top = round((turned.shape[0] - crop) / 2)
        left = round((turned.shape[1] - crop) / 2)
        return cast(Frames, turned[top : top + crop, left : left + crop])
