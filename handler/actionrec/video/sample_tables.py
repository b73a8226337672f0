"""How many tracks an MP4 has, and samples it promises in a few bytes; checked before FFmpeg opens it.

FFmpeg keeps 70 bytes for each sample (a frame, or a piece of sound) in a table. Two tables can promise any
number of samples without a byte for each: a track fragment run (trun) without fields, and a table of equal
sizes (stsz). 24 KB of them take 3 GB. But each sample has at least one byte, so no honest file promises more
samples than it has bytes. And FFmpeg opens a decoder for each track, which takes it
longer for a thousand than opening may take.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

SPARE = 1_000_000
"""Samples that a file may promise beyond its bytes, since it may have been cut short."""

MOST_TABLES = 1_000_000

_MOST_BOXES = 100_000
"""Boxes that are read one by one."""

# Boxes that name places in the file. FFmpeg goes there, which may be inside parts that are not searched
# otherwise.
_INDICES = (b"sidx", b"mfra")

# Flags of a trun (ISO/IEC 14496-12, 8.8.8): two fields of the run, four of each sample.
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


def too_many_tracks(data: bytes, most: int) -> bool:
    """Whether a file has more tracks.

    Args:
        data: the file.
        most: tracks that it may have.
    """
    found = 0
    for first, stop in _searched(data):
        for place in _places(data, b"trak", max(first, 4), stop):
            (size,) = struct.unpack_from(">I", data, place - 4)
            found += 8 <= size <= len(data) - place + 4
            if found > most:
                return True
    return False


def _promises(data: bytes) -> Iterator[int]:
    """How many samples each table promises without a byte for each; 0 where only the table's name was found."""
    for first, stop in _searched(data):
        for place in _places(data, b"trun", first, stop):
            flags, count = struct.unpack_from(">II", data, place + 4)
            known = flags >> 24 <= 1 and not flags & 0xFFFFFF & ~_RUN_FLAGS
            yield count if known and not flags & _SAMPLE_FIELDS else 0
        for place in _places(data, b"stsz", first, stop):
            flags, size, count = struct.unpack_from(">III", data, place + 4)
            yield count if flags == 0 and size else 0


def _searched(data: bytes) -> list[tuple[int, int]]:
    """Ranges [first, stop) that may hold tables: everything outside the coded frames, as far as boxes can be
    followed.
    """
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
    """Positions of a name in [first, stop)."""
    place = data.find(name, first, stop)
    while 0 <= place <= len(data) - 16:
        yield place
        place = data.find(name, place + 1, stop)
