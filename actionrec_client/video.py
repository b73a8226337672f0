"""What a caller calls a video -> the bytes of a file that can be sent."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from actionrec.limits import DEFAULT_LIMITS

from .encoding import encode_pictures
from .errors import Refused


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Pictures that were never in a file."""

    pixels: npt.NDArray[np.uint8]
    """uint8 [T, H, W, 3], RGB."""
    fps: float
    """Pictures a second, above 0 and at most 1000."""

    def encode(self) -> bytes:
        """An MP4 with exactly these pixels: lossless H.264 in RGB.

        Raises:
            ValueError: there is no frame, or they are not uint8 [T, H, W, 3].
        """
        pixels = self.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not pixels.size:
            raise ValueError(f"frames must be uint8 [T, H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
        if not 0 < self.fps <= 1000:
            raise ValueError(f"fps must be above 0 and at most 1000, got {self.fps}")
        return encode_pictures(pixels, 1 / Fraction(self.fps).limit_denominator(1001))


Video = Path | str | bytes | Frames
"""A path, the bytes of a file, or frames."""


def read(video: Video) -> bytes:
    """The file to send.

    Raises:
        Refused: there is no such file, or it has no bytes, or more than a server takes.
        ValueError: frames of another shape.
    """
    if isinstance(video, Frames | bytes):
        data = to_bytes(video)
    else:
        path = Path(video)
        # Its size is checked first: a file of many gigabytes must not come into memory to be refused.
        check_size(size_of(path))
        try:
            data = path.read_bytes()
        except OSError as error:
            raise unreadable(path, error) from error
    check_size(len(data))
    return data


def to_bytes(video: bytes | Frames) -> bytes:
    """A file of what is in memory.

    Raises:
        ValueError: frames of another shape.
    """
    return video.encode() if isinstance(video, Frames) else video


def size_of(path: Path) -> int:
    """Bytes of a file.

    Raises:
        Refused: it is not there, or may not be read.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error


def check_size(size: int) -> None:
    """Refuse what a server would refuse, before it is sent: the server would cut the connection in the middle.

    Args:
        size: of the file, in bytes.

    Raises:
        Refused: ``TOO_LARGE``, ``EMPTY_BODY``.
    """
    limit = DEFAULT_LIMITS.body_bytes
    if size > limit:
        hint = "Use timeline, which sends a long video in parts, or cut or re-encode it."
        raise Refused("TOO_LARGE", 413, f"The file has {size:,} bytes; a request may have {limit:,}.", hint)
    if not size:
        raise Refused("EMPTY_BODY", 400, "The file has no bytes.", "Is it still being written?")


def unreadable(path: Path, error: OSError) -> Refused:
    """The refusal of a file that is not there, or may not be read."""
    reason = error.strerror or type(error).__name__
    return Refused("UNREADABLE_FILE", 0, f"{path}: {reason}.", "Check the path and its rights.")
