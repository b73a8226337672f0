"""How many samples an MP4 promises in a few bytes, before FFmpeg opens it.

FFmpeg keeps 70 bytes for each sample (a frame, or a piece of sound) that a table tells of. Two tables tell of
any number without a byte for each: a track fragment run (trun) without fields, and a table of sizes (stsz) that
are all the same. 24 KB of them take 3 GB. But each sample has a byte at least, so no true file promises more
than it has bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

SPARE = 1_000_000
"""Samples that a file may promise beyond its bytes: it may have been cut short."""

MOST_TABLES = 1_000_000

_MOST_BOXES = 100_000
"""That are gone through one by one."""

# Boxes that name places in the file. FFmpeg goes there, and that may be inside of what is not read otherwise.
_INDICES = (b"sidx", b"mfra")

# Flags of a trun (ISO/IEC 14496-12, 8.8.8): two fields of its own, four of each sample.
_RUN_FLAGS = 0x000F05
_SAMPLE_FIELDS = 0x000F00


def too_many_samples(data: bytes) -> bool:
    """Whether a file promises more samples than it can have."""
    most = len(data) + SPARE
    promised = 0
    for number, count in enumerate(_promises(data)):
        promised += count
        if promised > most or number >= MOST_TABLES:
            return True
    return False


def _promises(data: bytes) -> Iterator[int]:
    """How many samples each table tells of without a byte for each; 0 for what has such a table's name only."""
    for first, stop in _searched(data):
        for place in _places(data, b"trun", first, stop):
            flags, count = struct.unpack_from(">II", data, place + 4)
            known = flags >> 24 <= 1 and not flags & 0xFFFFFF & ~_RUN_FLAGS
            yield count if known and not flags & _SAMPLE_FIELDS else 0
        for place in _places(data, b"stsz", first, stop):
            flags, size, count = struct.unpack_from(">III", data, place + 4)
            yield count if flags == 0 and size else 0


def _searched(data: bytes) -> list[tuple[int, int]]:
    """Where tables may be: [first, stop) of all outside of the coded pictures, as far as boxes are in order."""
    parts, first, place = [], 0, 0
    for _ in range(_MOST_BOXES):
        if place + 16 > len(data):
            break
        size, kind = struct.unpack_from(">I4s", data, place)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, place + 8)
        if kind in _INDICES:
            return [(0, len(data))]
        if size < 8 or size > len(data) - place:
            break
        if kind == b"mdat":
            parts.append((first, place + 8))
            first = place + size
        place += size
    return [*parts, (first, len(data))]


def _places(data: bytes, name: bytes, first: int, stop: int) -> Iterator[int]:
    """Where a name stands whose table begins in [first, stop)."""
    place = data.find(name, first, stop)
    while 0 <= place <= len(data) - 16:
        yield place
        place = data.find(name, place + 1, stop)
