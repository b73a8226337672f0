"""The video that a timeline is of, and who opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from actionrec.errors import ClipError
from actionrec.video import container

from .. import video
from ..errors import Refused
from .remux import CuttableVideo, NotCuttable, Part

_SAMPLE_SECONDS = 10.0  # of a video, to learn from a reply how long a window is


class Cuttable(Protocol):
    """A video that parts are cut from; see `CuttableVideo`."""

    seconds: float

    def size(self, start_seconds: float, end_seconds: float) -> int:
        """Bytes that a part will have, about."""

    def part(self, start_seconds: float, end_seconds: float) -> Part:
        """A piece as a file of its own."""


class Cutter(Protocol):
    """What opens the videos of strangers: in this process, or in one that can harm nothing."""

    def cuttable(self, place: Path | bytes) -> Cuttable:
        """The video's index.

        Raises:
            NotCuttable: it has to be sent whole.
        """

    def seconds(self, data: bytes) -> float:
        """The length of a video that cannot be cut, as a server measures it.

        Raises:
            ClipError: it is no video.
        """


class InThisProcess:
    """Opens one's own videos."""

    def cuttable(self, place: Path | bytes) -> Cuttable:
        """See `Cutter.cuttable`."""
        return CuttableVideo(place)

    def seconds(self, data: bytes) -> float:
        """See `Cutter.seconds`."""
        with container.Source(data) as source:
            return source.seconds()


IN_THIS_PROCESS = InThisProcess()


class SentVideo:
    """The video that a timeline is of: a file, which is read only where it has to be, or bytes.

    Args:
        source: as a caller names it.
        most_bytes: of a request.
        cutter: what opens it.

    Raises:
        Refused: it cannot be read, or is too large for one request and cannot be cut.
    """

    def __init__(self, source: video.Video, most_bytes: int, cutter: Cutter) -> None:
        self._cutter = cutter
        self._place = Path(source) if isinstance(source, str | Path) else video.to_bytes(source)
        self._most_bytes = most_bytes
        size = video.size_of(self._place) if isinstance(self._place, Path) else len(self._place)
        self.fits = size <= most_bytes
        """Whether one request takes all of it."""
        self.index: Cuttable | None = None
        """Its key frames; None where it cannot be cut."""
        try:
            self.index = cutter.cuttable(self._place)
        except NotCuttable as error:
            self.check_fits(error)

    def read(self) -> bytes:
        """All of it."""
        return video.read(self._place)

    def seconds(self) -> float:
        """Its length, as a server measures it.

        Raises:
            Refused: it is no video.
        """
        if self.index is not None:
            return self.index.seconds
        try:
            return self._cutter.seconds(self.read())
        except ClipError as error:
            raise Refused(error.code, error.status, error.message, error.hint) from error

    def sample(self, start_seconds: float) -> bytes:
        """Some seconds of it, or where that cannot be cut all of it."""
        if self.fits or self.index is None:
            return self.read()
        return self.index.part(start_seconds, start_seconds + _SAMPLE_SECONDS).data

    def check_fits(self, why_whole: NotCuttable) -> None:
        """Make sure that all of it can be sent in one request, since it cannot be cut.

        Raises:
            Refused: ``TOO_LARGE``.
        """
        if not self.fits:
            message = f"The file has more than the {self._most_bytes:,} bytes of a request, and {why_whole}."
            hint = "Put it into another container first: ffmpeg -i input -c copy output.mkv"
            raise Refused("TOO_LARGE", 413, message, hint) from why_whole
