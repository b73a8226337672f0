"""One input of the fuzzer: a file, and which part of it is asked for.

What is asked stands in the five bytes behind the file, so that an input is one run of bytes for all that keeps,
mixes and shrinks it. A file without them is asked for its first window.
"""

from __future__ import annotations

from dataclasses import dataclass

from actionrec.limits import Limits
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec

SPEC = ClipSpec(short_side=32, crop=32)
LIMITS = Limits(pixels=1 << 20)
"""Of the service, but for smaller frames: what large ones cost is known."""

SELECTIONS = (
    Selection(),
    Selection(0.1),
    Selection(30.0),
    Selection(0.0, 0.2),
    Selection(0.0, 80_000.0),
    Selection(stride_seconds=0.5),
    Selection(views=5, crops=3),
    Selection(0.1, 100.0, stride_seconds=2.0, crops=3),
)
_MARK = b"\xffSEL"


@dataclass(frozen=True, slots=True)
class Case:
    """What the sandbox is given."""

    data: bytes
    number: int = 0
    """Of the selection."""

    @property
    def selection(self) -> Selection:
        return SELECTIONS[self.number]

    def dump(self) -> bytes:
        """One run of bytes."""
        return self.data + (_MARK + bytes([self.number]) if self.number else b"")

    @classmethod
    def parse(cls, given: bytes) -> Case:
        """The inverse of `dump`."""
        if given[-5:-1] == _MARK:
            return cls(given[:-5], given[-1] % len(SELECTIONS))
        return cls(given)
