"""Files as trees of pieces, and back: a piece that changes keeps its size field and checksum right.

A file that is changed without regard for its layout is refused by the first thing that reads it; one whose
boxes, elements, pages or packets are whole gets to the code behind.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

Seal = Callable[[bytes, bytes], bytes]
"""(head, body) -> the piece's bytes."""

_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def plain(head: bytes, body: bytes) -> bytes:
    return head + body


@dataclass(slots=True)
class Piece:
    """A part of a file with a name: what MP4 calls a box, Matroska an element, Ogg a page."""

    head: bytes
    """Name and flags, without the size."""
    body: bytes
    """Where it has children: what stands before them."""
    seal: Seal = plain
    children: list[Piece] = field(default_factory=list)

    def dump(self) -> bytes:
        """The piece's bytes."""
        return self.seal(self.head, self.body + dump(self.children))

    def copy(self) -> Piece:
        """Another one alike, to be changed apart."""
        return Piece(self.head, self.body, self.seal, [child.copy() for child in self.children])


Pieces = Generator[Piece, None, int]
"""Pieces from a file's start on; returns where the last one ends."""


def whole(parts: Callable[[bytes, int], Pieces], data: bytes, depth: int = 0) -> list[Piece]:
    """The pieces, and as the last one what could not be read."""
    found: list[Piece] = []
    pieces, end = parts(data, depth), -1
    while end < 0:
        try:
            found.append(next(pieces))
        except StopIteration as stop:
            end = stop.value
    return [*found, Piece(b"", data[end:])] if end < len(data) else found


def dump(pieces: list[Piece]) -> bytes:
    """The bytes of pieces that follow each other."""
    return b"".join(piece.dump() for piece in pieces)


def crc32(data: bytes, start: int) -> int:
    """The CRC of Ogg (`start` 0) and MPEG-TS (all ones): zlib's polynomial, bits the other way round."""
    reversed_start = int(f"{start:032b}"[::-1], 2)
    found = zlib.crc32(data.translate(_REVERSED), reversed_start ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2)
