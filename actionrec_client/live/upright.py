"""A frame -> a picture for people: upright, and not larger than is of use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter


class Upright:
    """Makes pictures of one stream's frames.

    Args:
        most: pixels of the longer edge; a smaller frame keeps its size.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """A picture, uint8 [H, W, 3], RGB; height and width are even."""
        scale = min(1.0, self._most / max(frame.width, frame.height))
        # Even, since 4:2:0 halves them.
        width, height = (max(2, int(edge * scale) // 2 * 2) for edge in (frame.width, frame.height))
        rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), k=frame.rotation // 90))
