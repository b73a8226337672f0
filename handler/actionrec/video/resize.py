"""A decoded frame -> pixels at the model's size: RGB, short side, rotation, crops.

Parts of the frame that no crop needs are neither converted nor resized:

    frame --- region (libavfilter, no copy) --- RGB (swscale) --- int16 --- bilinear resize (OpenCV)
    in bands of `_BAND_BYTES`, so that each step reads what the last one wrote from the core's cache
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ..problems import problem
from ..sampling import crop_corners, scaled_size
from ..spec import STEPS_PER_LEVEL, ClipSpec

Pixels = npt.NDArray[np.int16]
"""RGB in steps of 1/128 level: see `STEPS_PER_LEVEL`."""


def rounded(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Pixels as uint8 of the same shape: for people and files, not for the model."""
    return ((pixels + STEPS_PER_LEVEL // 2) // STEPS_PER_LEVEL).astype(np.uint8)


_CONVERTIBLE = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
"""Color spaces that swscale turns into RGB, by their numbers in ITU-T H.273."""
_SPACES = {
    3: "reserved",
    8: "ycgco",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
"""All other color spaces, with FFmpeg's names."""

_SHIFT = STEPS_PER_LEVEL.bit_length() - 1

_BAND_BYTES = 2 << 20
"""Bytes of int16 pixels that are resized together: about a second-level cache (benchmarks/decode.py)."""
_COLUMN_STEP, _ROW_STEP = 16, 8
"""A region starts at multiples of these: whole chroma samples, vector alignment, swscale's dithering."""
_MARGIN = 2
"""Extra pixels around a region: for some formats swscale mixes a pixel's chroma with its neighbour's."""


class Resizer:
    """Converts decoded frames of any size, pixel format and rotation to the model's size.

    Args:
        spec: short side and crop.
        crops: 1: the centre; 3: both ends of the longer side and the middle.
    """

    def __init__(self, spec: ClipSpec, crops: int = 1) -> None:
        self._spec = spec
        self._crops = crops
        self._layout: object = None
        self._bands: tuple[_Band, ...] = ()
        self.shown = (0, 0)
        """(width, height) of the last frame as shown, in pixels."""

    def __call__(self, frame: VideoFrame) -> Pixels:
        """Convert one frame.

        Returns:
            int16 [crops, crop, crop, 3], RGB, upright. May share memory with this object: copy it to keep it.
        """
        layout = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if layout != self._layout:
            self._plan(frame)
            self._layout = layout
        width, height = frame.width, frame.height
        self.shown = (width, height) if frame.rotation % 180 == 0 else (height, width)
        for band in self._bands:
            self._resized[band.target] = band.resized(frame)
        turned = np.rot90(self._resized, k=frame.rotation // 90)
        crop = self._spec.crop
        corners = crop_corners(turned.shape[0], turned.shape[1], crop, self._crops)
        cropped = [turned[top : top + crop, left : left + crop] for top, left in corners]
        return cropped[0][None] if len(cropped) == 1 else np.stack(cropped)

    def write(self, frame: VideoFrame, places: Sequence[Pixels]) -> None:
        """Convert one frame into arrays, int16 [crops, crop, crop, 3] each."""
        pixels = self(frame)
        for place in places:
            place[...] = pixels

    def finish(self) -> None:
        """Nothing is written later."""

    def _plan(self, frame: VideoFrame) -> None:
        """Set up for frames like this one."""
        width, height = frame.width, frame.height
        size = scaled_size(width, height, self._spec.short_side)
        self._resized = np.zeros((size[1], size[0], 3), dtype=np.int16)
        read, band_bytes = [self._read(side) for side in size], float(_BAND_BYTES)
        if width % 2 or height % 2:
            # swscale treats the chroma of these sizes in another, finer way: a region would differ from the
            # whole.
            read, band_bytes = [slice(0, side) for side in size], math.inf
        columns = next(_parts(width, size[0], read[0], size[0]))
        least = min(size[1], band_bytes / (columns.length() * 3 * 2) / height * size[1])
        rows = list(_parts(height, size[1], read[1], least))
        # One buffer for all bands; it stays zero beside the columns that are read.
        wide = np.zeros((max(map(_Part.length, rows)), columns.length(), 3), dtype=np.int16)
        self._bands = tuple(_Band.of(frame, part, columns, wide[: part.length()]) for part in rows)

    def _read(self, length: int) -> slice:
        """Which of `length` resized pixels along one axis the crops need, with one more at either end."""
        spare = 0.0 if self._crops > 1 else (length - self._spec.crop) / 2
        return slice(max(0, math.floor(spare) - 1), min(length, math.ceil(length - spare) + 1))


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch along one axis that is resized separately, with the same result as in the whole."""

    source: slice
    """Pixels of the frame."""
    target: slice
    """Pixels of the result; their ratio to `source` is that of the whole."""
    read: slice
    """Pixels of the frame, with even edges, that the needed pixels of the result are computed from."""

    def length(self) -> int:
        """Length of `source`, in pixels."""
        return cast(int, self.source.stop - self.source.start)


def _parts(source: int, target: int, read: slice, least: float) -> Iterator[_Part]:
    """Split the needed range of a side of `target` pixels, resized from `source`, into parts.

    Parts begin and end where an edge between the result's pixels meets one between the frame's. Where the
    result is smaller than the frame, no pixel of a part depends on another part.

    Args:
        source, target: length of the side in pixels, of the frame and of the result.
        read: pixels of the result that the crops need.
        least: the fewest pixels of the result in a part.
    """
    common = math.gcd(source, target) if source >= target else 1
    unit, result_unit = source // common, target // common
    step = max(1, round(least / result_unit))
    last = math.ceil(read.stop / result_unit)
    for first in range(read.start // result_unit, last, step):
        stop = min(first + step, last)
        part = slice(first * result_unit, stop * result_unit)
        inside = slice(max(part.start, read.start), min(part.stop, read.stop))
        yield _Part(slice(first * unit, stop * unit), part, _source(inside, source, target))


def _source(read: slice, source: int, target: int) -> slice:
    """Which of `source` pixels a resize to `target` reads for the pixels in `read`, plus `_MARGIN`."""
    scale = source / target
    first = max(0, math.floor((read.start + 0.5) * scale - 0.5) - _MARGIN)
    last = min(source, math.ceil((read.stop - 0.5) * scale + 0.5) + 1 + _MARGIN)
    return slice(first // 2 * 2, min(source, last + last % 2))


@dataclass(frozen=True, slots=True)
class _Band:
    """Rows of the decoded frame that are converted and resized together."""

    target: tuple[slice, slice]
    """Rows and columns of the resized frame."""
    _graph: Graph | None
    """Filter that crops to the region; None where it is the whole frame, or the filter does not take such
    frames."""
    _wide: Pixels
    """Input of the resize, int16 [H, W, 3]."""
    _from: tuple[slice, slice]
    """Rows and columns of the converted frame that are copied into `_wide`."""
    _into: tuple[slice, slice]
    """Rows and columns of `_wide` that they are copied to."""
    _reformatter: VideoReformatter = field(default_factory=VideoReformatter)
    """Used for all frames: a new one would set up its scaler again."""

    @classmethod
    def of(cls, frame: VideoFrame, rows: _Part, columns: _Part, wide: Pixels) -> _Band:
        """The band for frames like this one.

        Args:
            frame: gives size and pixel format.
            rows, columns: the parts that the band covers.
            wide: int16 [rows, columns, 3], zero where nothing is read.
        """
        left = columns.read.start // _COLUMN_STEP * _COLUMN_STEP
        top = rows.read.start // _ROW_STEP * _ROW_STEP
        graph = _crop_filter(frame, left, top, columns.read.stop, rows.read.stop)
        origins = (0, 0) if graph is None else (top, left)
        taken, into = [], []
        for part, origin in zip((rows, columns), origins, strict=True):
            first, stop = max(part.read.start, part.source.start), min(part.read.stop, part.source.stop)
            taken.append(slice(first - origin, stop - origin))
            into.append(slice(first - part.source.start, stop - part.source.start))
        return cls((rows.target, columns.target), graph, wide, (taken[0], taken[1]), (into[0], into[1]))

    def resized(self, frame: VideoFrame) -> Pixels:
        """The band's part of the result, int16 [H, W, 3]."""
        if self._graph is not None:
            self._graph.push(frame)
            frame = cast(VideoFrame, self._graph.pull())
        try:
            plane = self._reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
        except av.FFmpegError as error:
            space = int(frame.colorspace)
            if error.errno != errno.ENOTSUP or space in _CONVERTIBLE:
                raise
            raise problem("unsupported_color_space", space=_SPACES.get(space, "unknown")) from error
        lines = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(plane.height, plane.line_size)
        rgb = lines[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
        np.left_shift(rgb[self._from], _SHIFT, out=self._wide[self._into], dtype=np.int16)
        height, width = (part.stop - part.start for part in self.target)
        if self._wide.shape[:2] == (height, width):
            return self._wide
        # The same positions and weights as F.interpolate(mode="bilinear", align_corners=False).
        return cast(Pixels, cv2.resize(self._wide, (width, height), interpolation=cv2.INTER_LINEAR))


def _crop_filter(frame: VideoFrame, left: int, top: int, right: int, bottom: int) -> Graph | None:
    """FFmpeg's filter that crops frames like this one to [top:bottom, left:right].

    Returns:
        None where none is needed or possible.
    """
    if (left, top, right, bottom) == (0, 0, frame.width, frame.height):
        return None
    graph = Graph()
    try:
        source = graph.add(
            "buffer",
            f"width={frame.width}:height={frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
        )
        crop = graph.add("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1")
        sink = graph.add("buffersink")
        source.link_to(crop)
        crop.link_to(sink)
        graph.configure()
    except (av.FFmpegError, ValueError):
        return None
    return graph
