"""How many programs an MPEG transport stream names; checked before FFmpeg opens it.

FFmpeg keeps every program of every program association table (PAT), and searches all of them for each new one:
200 tables with 40 programs each, in a file of 40 KB, cost it more than a minute. So the packets with tables are
counted here first, wherever they are, since FFmpeg finds them at any distance too:

    47 [x 0 0 . . . . .] 00  ..  pointer  00 [length] . . . . .  (program, PID) (program, PID) ...  CRC
    sync, then PID 0                      table 0
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_PACKET = 188
_SIZES = (188, 192, 204)
"""Bytes of a packet: plain, with a timecode (M2TS), with error correction."""
_SYNC = 0x47
_IN_A_ROW = 5
"""Packets in a row that identify a stream."""
_SEARCHED = 65_536
"""Bytes at the file's start in which they are searched."""

MOST_TABLES = 65_536
"""The most packets that may hold a table; at ten a second almost two hours."""
_BLOCK = 1 << 18
"""Bytes that are searched at once: they fit into a core's cache."""
_MOST_ENTRIES = 253
"""The most programs in one section, which has at most 1,024 bytes."""


def is_transport_stream(data: bytes) -> bool:
    """Whether packets of a transport stream follow one another near the file's start."""
    head = np.frombuffer(data, dtype=np.uint8, count=min(len(data), _SEARCHED))
    sync = head == _SYNC
    for size in _SIZES:
        starts = len(sync) - (_IN_A_ROW - 1) * size
        if starts > 0 and np.logical_and.reduce([sync[k * size :][:starts] for k in range(_IN_A_ROW)]).any():
            return True
    return False


def programs(data: bytes, most: int) -> int:
    """How many programs a transport stream names in its tables; the count stops at `most` + 1."""
    found: set[bytes] = set()
    seen: set[bytes] = set()
    unseen = 0
    for count, place in enumerate(_tables(data)):
        table = data[place + 3 : place + _PACKET]
        if table not in seen:
            seen.add(table)
            for entries, beyond in _sections(table):
                found.update(entries)
                unseen += beyond
        if len(found) + unseen > most or count >= MOST_TABLES:
            return most + 1
    return len(found) + unseen


def _tables(data: bytes) -> Iterator[int]:
    """Positions of packets of PID 0 that begin a section, in order; other bytes may look like one."""
    everything = np.frombuffer(data, dtype=np.uint8)
    for start in range(0, len(everything) - 3, _BLOCK):
        block = everything[start : start + _BLOCK + 2]
        begins = (block[:-2] == _SYNC) & ((block[1:-1] & 0x5F) == 0x40) & (block[2:] == 0)
        for place in np.flatnonzero(begins).tolist():
            yield start + place


def _sections(packet: bytes) -> Iterator[tuple[list[bytes], int]]:
    """For each section of a PAT: (its programs in this packet, how many more follow in the next packets).

    Args:
        packet: the packet from its fourth byte on.
    """
    place = 1
    if len(packet) > 1 and packet[0] & 0x20:  # an adaptation field
        place += 1 + packet[1]
    if place >= len(packet) or not packet[0] & 0x10:  # no payload
        return
    place += 1 + packet[place]
    while place < len(packet) and packet[place] == 0:
        if place + 8 > len(packet):
            yield [], _MOST_ENTRIES
            return
        length = int.from_bytes(packet[place + 1 : place + 3], "big") & 0xFFF
        count = (length - 9) // 4
        section = packet[place + 8 : place + 8 + 4 * max(0, count)]
        entries = [section[k : k + 4] for k in range(0, len(section) - 3, 4)]
        yield entries, max(0, min(count, _MOST_ENTRIES) - len(entries))
        place += 3 + length
