"""Decoded frame -> pixels at the model's size: RGB, short side, rotation, crops.

What no crop reads is neither converted nor resized. Of a large frame only two rows in several are read:

    frame --- cut (libavfilter, no copy) --- RGB (swscale) --- the rows that are read --- resize across
                                                                                      --- mix two rows into one
    in bands of `_BAND_ROWS`, so that what one step writes is still in the core's cache when the next reads it
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from .sampling import crop_corners
from .spec import STEPS_PER_LEVEL, ClipSpec

Pixels = npt.NDArray[np.int16]
"""RGB in steps of 1/128 level: see `STEPS_PER_LEVEL`."""


def rounded(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Pixels in whole levels, uint8 of the same shape: for people and files, not for the model."""
    return ((pixels + STEPS_PER_LEVEL // 2) // STEPS_PER_LEVEL).astype(np.uint8)


_SHIFT = STEPS_PER_LEVEL.bit_length() - 1

_BAND_ROWS = 64
"""Of the result. At 1080p its source is 0.9 MB of RGB: about a second-level cache."""
_LEAST_REDUCTION = 3.5
"""Of the height, for skipping rows to gain more than it costs (benchmarks/decode.py)."""
_COLUMN_STEP = 16
"""A cut starts at a multiple of this: whole chroma samples, aligned for vector instructions."""


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
        self._layout: object = None
        self._bands: tuple[_Band, ...] = ()
        self.shown = (0, 0)
        """(width, height) of the last frame as shown, in pixels."""

    def __call__(self, frame: VideoFrame) -> Pixels:
        """Convert one frame.

        Returns:
            int16 [crops, crop, crop, 3], RGB, upright; may be a view, to be copied where it is kept.
        """
        layout = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if layout != self._layout:
            self._plan(frame)
            self._layout = layout
        width, height = frame.width, frame.height
        self.shown = (width, height) if frame.rotation % 180 == 0 else (height, width)
        for band in self._bands:
            self._resize(band, self._rgb(band.cut(frame)))
        turned = np.rot90(self._resized, k=frame.rotation // 90)
        crop = self._spec.crop
        corners = crop_corners(turned.shape[0], turned.shape[1], crop, self._crops)
        cut = [turned[top : top + crop, left : left + crop] for top, left in corners]
        return cut[0][None] if len(cut) == 1 else np.stack(cut)

    def _plan(self, frame: VideoFrame) -> None:
        """Set up for frames like this one."""
        width, height, side = frame.width, frame.height, self._spec.short_side
        # The longer side is cut, not rounded, as pytorchvideo's short_side_scale does.
        size = (side, int(height / width * side)) if width < height else (int(width / height * side), side)
        rows, columns = self._read(size[1]), _source(self._read(size[0]), width, size[0])
        left, right = columns.start // _COLUMN_STEP * _COLUMN_STEP, columns.stop
        self._resized = np.zeros((size[1], size[0], 3), dtype=np.int16)
        bands: list[tuple[slice, _Mixed | None]] = [(_source(rows, height, size[1]), None)]
        if height / size[1] >= _LEAST_REDUCTION:
            bands = [*_bands(rows, height, size[1])]
        self._bands = tuple(_Band(_cutter(frame, left, right, span), span, mixed) for span, mixed in bands)
        read = max(height if band.mixed is None else 2 * len(band.mixed.share) for band in self._bands)
        # Full width, zero beside the columns that are read: so a resize has the whole frame's positions.
        self._wide = np.zeros((read, width, 3), dtype=np.int16)
        self._columns = slice(left, right)

    def _read(self, length: int) -> slice:
        """Which of `length` resized pixels along one axis the crops read, with one more at either end."""
        spare = 0.0 if self._crops > 1 else (length - self._spec.crop) / 2
        return slice(max(0, math.floor(spare) - 1), min(length, math.ceil(length - spare) + 1))

    def _rgb(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """uint8 [H, W, 3], without a copy."""
        plane = self._reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(plane.height, plane.line_size)
        return rows[:, : plane.width * 3].reshape(plane.height, plane.width, 3)

    def _resize(self, band: _Band, rgb: npt.NDArray[np.uint8]) -> None:
        """Put a band's pixels into the resized frame, right where a crop will read."""
        height, width = self._resized.shape[:2]
        if band.mixed is None:
            part = self._wide[band.rows, self._columns]
            np.left_shift(rgb[: part.shape[0], : part.shape[1]], _SHIFT, out=part, dtype=np.int16)
            # The same positions and weights as F.interpolate(mode="bilinear", align_corners=False).
            self._resized = _linear(self._wide, width, height)
            return
        upper_and_lower = rgb.take(band.mixed.source, axis=0, mode="clip")
        part = self._wide[: len(upper_and_lower), self._columns]
        np.left_shift(upper_and_lower[:, : part.shape[1]], _SHIFT, out=part, dtype=np.int16)
        across = _linear(self._wide[: len(upper_and_lower)], width, len(upper_and_lower))
        upper = across[0::2]
        change = (across[1::2] - upper) * band.mixed.share
        np.add(upper, np.rint(change, out=change), out=self._resized[band.mixed.target], casting="unsafe")


@dataclass(frozen=True, slots=True)
class _Mixed:
    """Which two rows of a band make each row of the result."""

    target: slice
    """Rows of the resized frame."""
    source: npt.NDArray[np.int64]
    """Rows of the band: upper, lower, upper, lower, ..."""
    share: npt.NDArray[np.float32]
    """Of the lower one: [rows, 1, 1]."""


@dataclass(frozen=True, slots=True)
class _Band:
    """Rows of the decoded frame that are converted together."""

    graph: Graph | None
    """Cuts them out; None where the filter does not take such frames."""
    rows: slice
    mixed: _Mixed | None
    """None: all rows go through a plain resize."""

    def cut(self, frame: VideoFrame) -> VideoFrame:
        """The frame's part that is to be converted; shares its memory."""
        if self.graph is None:
            return frame
        self.graph.push(frame)
        return cast(VideoFrame, self.graph.pull())


def _source(read: slice, source: int, target: int) -> slice:
    """Which of `source` pixels along one axis a resize to `target` reads for those in `read`; even edges."""
    scale = source / target
    first = max(0, math.floor((read.start + 0.5) * scale - 0.5))
    last = min(source, math.ceil((read.stop - 0.5) * scale + 0.5) + 1)
    return slice(first // 2 * 2, min(source, last + last % 2))


def _bands(rows: slice, source: int, target: int) -> Iterator[tuple[slice, _Mixed]]:
    """Split the rows of the result that are read: (rows of the source, how they are mixed) of each part.

    All parts read equally many rows, since the converter is set up anew for each other size.
    """
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    upper = np.floor(position).astype(np.int64)
    share = (position - upper).astype(np.float32)[:, None, None]
    parts = [slice(i, min(i + _BAND_ROWS, rows.stop)) for i in range(rows.start, rows.stop, _BAND_ROWS)]
    starts = [max(0, int(upper[part.start])) // 2 * 2 for part in parts]
    longest = max(int(upper[part.stop - 1]) + 2 - start for part, start in zip(parts, starts, strict=True))
    longest = min(source, longest + longest % 2)
    for part, start in zip(parts, starts, strict=True):
        first = min(start, (source - longest) // 2 * 2)
        pairs = np.stack([upper[part], upper[part] + 1], axis=1).clip(0, source - 1) - first
        yield slice(first, first + longest), _Mixed(part, pairs.ravel(), share[part])


def _cutter(frame: VideoFrame, left: int, right: int, rows: slice) -> Graph | None:
    """A filter that cuts [rows, left:right] out of frames like this one; None where there is none."""
    if (left, right, rows.start, rows.stop) == (0, frame.width, 0, frame.height):
        return None
    graph = Graph()
    try:
        source = graph.add(
            "buffer",
            f"width={frame.width}:height={frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
        )
        crop = graph.add("crop", f"{right - left}:{rows.stop - rows.start}:{left}:{rows.start}:exact=1")
        sink = graph.add("buffersink")
        source.link_to(crop)
        crop.link_to(sink)
        graph.configure()
    except (av.FFmpegError, ValueError):
        return None
    return graph


def _linear(pixels: Pixels, width: int, height: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    return cast(Pixels, cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR))
