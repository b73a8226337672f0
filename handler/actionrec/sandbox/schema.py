"""What a worker accepts from a decoding child: only values of the kinds and ranges that an honest child sends.

A child may have been taken over by the video that it decodes. So a view is checked value by value, the message
of an error is made here from its key and values (`problems`), and views must come in order and not be too many.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ..limits import Limits
from ..problems import error_from_wire, warning_from_wire
from ..sampling import Selection
from ..spec import ClipSpec
from ..video.decode import Decoded
from ..video.resize import Pixels
from .stderr import safe_lines
from .wire import BrokenPeerError

_WARNINGS = 8
"""The most warnings of one window; an honest one has three."""
_FPS = 2.0**32
_SIDE = 65_535
_CODEC = re.compile(r"[a-z0-9_-]{0,32}")
_NAMES = {field.name for field in fields(Decoded)} - {"frames"}


class Answers:
    """The answers of one child to one request.

    Args:
        spec, selection, limits: of the request.
    """

    def __init__(self, spec: ClipSpec, selection: Selection, limits: Limits) -> None:
        self._spec = spec
        self._crops = selection.crops
        self._most_windows = limits.windows // selection.crops
        self._frames = limits.frames
        # A window may begin at the largest time that an option may name.
        self._seconds = limits.seconds + limits.seconds
        self._next = (0, 0)

    def window(self, said: object, frames: Callable[[tuple[int, ...]], Pixels]) -> Decoded:
        """The view that a message describes.

        Args:
            said: the child's description of it, without frames.
            frames: takes a shape and returns a copy of so many pixels of the shared memory.

        Raises:
            BrokenPeerError: no honest child sends that.
        """
        if not isinstance(said, dict) or said.keys() != _NAMES:
            raise BrokenPeerError("a window with other fields")
        whole, seconds = self._whole, self._number
        missing = said["missing"]
        if type(missing) is not bool:
            raise BrokenPeerError("a window of another kind")
        window, crop = whole(said["window"], self._most_windows - 1), whole(said["crop"], self._crops - 1)
        if (window, crop) != self._next:
            raise BrokenPeerError("a window out of turn")
        last = missing or crop == self._crops - 1
        self._next = (window + 1, 0) if last else (window, crop + 1)
        boundaries, warnings = said["shot_boundaries"], said["warnings"]
        if not isinstance(boundaries, list) or len(boundaries) > self._spec.num_frames:
            raise BrokenPeerError("shot boundaries of another kind")
        if not isinstance(warnings, list) or len(warnings) > _WARNINGS:
            raise BrokenPeerError("warnings of another kind")
        side, count = self._spec.crop, 0 if missing else self._spec.num_frames
        times = said["frame_seconds"]
        if not isinstance(times, list) or len(times) != count:
            raise BrokenPeerError("times of another kind")
        shape = (count, side, side, 3)
        try:
            return Decoded(
                frames=frames(shape),
                start_seconds=seconds(said["start_seconds"], self._seconds),
                end_seconds=seconds(said["end_seconds"], self._seconds),
                source_frames=whole(said["source_frames"], self._frames),
                source_fps=seconds(said["source_fps"], _FPS),
                width=whole(said["width"], _SIDE),
                height=whole(said["height"], _SIDE),
                codec=_codec(said["codec"]),
                warnings=tuple(map(warning_from_wire, warnings)),
                shot_boundaries=tuple(seconds(each, self._seconds) for each in boundaries),
                window=window,
                frame_seconds=tuple(seconds(each, self._seconds) for each in times),
                crop=crop,
                missing=missing,
            )
        except ValueError as error:
            raise BrokenPeerError(f"an impossible window: {error}") from error

    def failure(self, message: dict[str, Any]) -> Exception:
        """The error that a child reports: a ClipError, or a RuntimeError for one that it does not know.

        Raises:
            BrokenPeerError: no honest child sends that.
        """
        if message.keys() == {"error"}:
            try:
                return error_from_wire(message["error"])
            except ValueError as error:
                raise BrokenPeerError(f"an impossible error: {error}") from error
        if message.keys() == {"internal"} and isinstance(message["internal"], str):
            lines = "\n".join(f"  | {line}" for line in safe_lines(message["internal"]))
            return RuntimeError(f"in a decoding child:\n{lines}")
        raise BrokenPeerError("an unknown message")

    def check_end(self) -> None:
        """Check that the child may end its answer now.

        Raises:
            BrokenPeerError: it has sent no view, or not all crops of a window.
        """
        if self._next[0] == 0 or self._next[1] != 0:
            raise BrokenPeerError("an end out of turn")

    @staticmethod
    def _whole(value: object, most: int) -> int:
        if type(value) is not int or not 0 <= value <= most:
            raise BrokenPeerError("an impossible number")
        return value

    @staticmethod
    def _number(value: object, most: float) -> float:
        if type(value) is not float or not math.isfinite(value) or not 0 <= value <= most:
            raise BrokenPeerError("an impossible number")
        return value


def _codec(value: object) -> str:
    if not isinstance(value, str) or not _CODEC.fullmatch(value):
        raise BrokenPeerError("a codec of another kind")
    return value
