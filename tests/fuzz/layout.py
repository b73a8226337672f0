"""How each container is taken apart into pieces, and what makes a changed piece whole again."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from .pieces import Piece, Pieces, crc32, whole

_DEEPEST = 8

# MP4: boxes with boxes inside -> bytes before those.
_BOXES = dict.fromkeys(b"moov trak mdia minf stbl edts dinf udta mvex moof traf mfra tref".split(), 0)
_BOXES |= {b"stsd": 8, b"dref": 8, b"meta": 4}
_BOXES |= dict.fromkeys(
    b"avc1 hvc1 hev1 av01 vp09 mp4v jpeg mjpa apcn apcs apch AVdn AVdh s263 m2v1 xd5b".split(), 78
)


def _seal_box(head: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + head + body


def _boxes(data: bytes, depth: int) -> Pieces:
    at = 0
    while at + 8 <= len(data):
        (size,), name, begin = struct.unpack_from(">I", data, at), data[at + 4 : at + 8], at + 8
        if size == 1 and at + 16 <= len(data):
            (size,), begin = struct.unpack_from(">Q", data, at + 8), at + 16
        end = at + size if size else len(data)
        if end < begin or end > len(data):
            break
        before = _BOXES.get(name)
        if before is None or depth == _DEEPEST:
            yield Piece(name, data[begin:end], _seal_box)
        else:
            inner = whole(_boxes, data[begin + before : end], depth + 1)
            yield Piece(name, data[begin : min(begin + before, end)], _seal_box, inner)
        at = end
    return at


# Matroska: elements with elements inside.
_ELEMENTS = frozenset(
    map(
        bytes.fromhex,
        "1a45dfa3 18538067 1f43b675 1654ae6b ae e0 e1 1549a966 1c53bb6b bb b7 114d9b74 4dbb a0 1254c367 7373"
        " 67c8 63c0 6d80 6240 5034 55b0".split(),
    )
)


def _vint(data: bytes, at: int, most: int) -> int:
    """Bytes of the number of variable length that stands there; 0 where none does."""
    length = 9 - data[at].bit_length() if at < len(data) and data[at] else 0
    return length if length <= most and at + length <= len(data) else 0


def _seal_element(head: bytes, body: bytes) -> bytes:
    length = next(n for n in range(1, 9) if len(body) < (1 << 7 * n) - 1)
    return head + (len(body) | 1 << 7 * length).to_bytes(length, "big") + body


def _elements(data: bytes, depth: int) -> Pieces:
    at = 0
    while (named := _vint(data, at, 4)) and (sized := _vint(data, at + named, 8)):
        begin = at + named + sized
        size = int.from_bytes(data[at + named : begin], "big") & ((1 << 7 * sized) - 1)
        end = len(data) if size == (1 << 7 * sized) - 1 else begin + size
        if end > len(data):
            break
        name = data[at : at + named]
        if name in _ELEMENTS and depth < _DEEPEST:
            yield Piece(name, b"", _seal_element, whole(_elements, data[begin:end], depth + 1))
        else:
            yield Piece(name, data[begin:end], _seal_element)
        at = end
    return at


def _seal_chunk(head: bytes, body: bytes) -> bytes:
    return head + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _chunks(data: bytes, depth: int) -> Pieces:
    at = 0
    while at + 8 <= len(data):
        name, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        end = at + 8 + size
        if end > len(data):
            break
        if name in (b"RIFF", b"LIST") and depth < _DEEPEST:
            inner = whole(_chunks, data[at + 12 : end], depth + 1)
            yield Piece(name, data[at + 8 : at + 12], _seal_chunk, inner)
        else:
            yield Piece(name, data[at + 8 : end], _seal_chunk)
        at = end + size % 2
    return at


_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


def _seal_object(head: bytes, body: bytes) -> bytes:
    return head + struct.pack("<Q", len(body) + 24) + body


def _objects(data: bytes, depth: int) -> Pieces:
    at = 0
    while at + 24 <= len(data):
        name, (size,) = data[at : at + 16], struct.unpack_from("<Q", data, at + 16)
        if size < 24 or at + size > len(data):
            break
        body = data[at + 24 : at + size]
        if name == _ASF_HEADER:
            yield Piece(name, body[:6], _seal_object, whole(_objects, body[6:], depth + 1))
        else:
            yield Piece(name, body, _seal_object)
        at += size
    return at


def _seal_tag(head: bytes, body: bytes) -> bytes:
    size = len(body) & 0xFFFFFF
    return head[:1] + size.to_bytes(3, "big") + head[1:] + body + struct.pack(">I", size + 11)


def _tags(data: bytes, _: int) -> Pieces:
    yield Piece(b"", data[:13])
    at = 13
    while at + 15 <= len(data):
        end = at + 11 + int.from_bytes(data[at + 1 : at + 4], "big")
        if end + 4 > len(data):
            break
        yield Piece(data[at : at + 1] + data[at + 4 : at + 11], data[at + 11 : end], _seal_tag)
        at = end + 4
    return at


def _seal_packet(head: bytes, body: bytes) -> bytes:
    """188 bytes; a table (PAT, PMT) that starts in it gets its checksum."""
    body = body[:184].ljust(184, b"\xff")
    if head[1] & 0x40 and head[3] & 0x30 == 0x10 and body[0] == 0 and body[1] in (0, 2):
        end = 4 + (int.from_bytes(body[2:4], "big") & 0xFFF)
        if 8 <= end <= 184:
            body = body[: end - 4] + struct.pack(">I", crc32(body[1 : end - 4], 0xFFFFFFFF)) + body[end:]
    return head + body


def _packets(data: bytes, _: int) -> Pieces:
    whole = len(data) // 188 * 188
    for at in range(0, whole, 188):
        yield Piece(data[at : at + 4], data[at + 4 : at + 188], _seal_packet)
    return whole


def _seal_page(head: bytes, body: bytes) -> bytes:
    """With a table of its segments' sizes that fits, and the checksum."""
    table, body = head[27:], body[: 255 * 255]
    if sum(table) != len(body):
        table = (b"\xff" * (len(body) // 255) + bytes([len(body) % 255]))[:255]
    page = head[:22] + bytes(4) + bytes([len(table)]) + table + body
    return page[:22] + struct.pack("<I", crc32(page, 0)) + page[26:]


def _pages(data: bytes, _: int) -> Pieces:
    at = 0
    while at + 27 <= len(data) and data[at : at + 4] == b"OggS":
        begin = at + 27 + data[at + 26]
        end = begin + sum(data[at + 27 : begin])
        if end > len(data):
            break
        yield Piece(data[at:begin], data[begin:end], _seal_page)
        at = end
    return at


def _seal_blocks(head: bytes, body: bytes) -> bytes:
    parts = (body[at : at + 255] for at in range(0, len(body), 255))
    return head + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def _gif_blocks(data: bytes, _: int) -> Pieces:
    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    at = 13 + (table(data[10]) if len(data) > 10 else 0)
    yield Piece(b"", data[:at])
    while at + 10 < len(data) and data[at] in b"\x21\x2c":
        begin = at + (2 if data[at] == 0x21 else 11 + table(data[at + 9]))
        end, body = begin, b""
        while end < len(data) and data[end]:
            body += data[end + 1 : end + 1 + data[end]]
            end += 1 + data[end]
        yield Piece(data[at:begin], body, _seal_blocks)
        at = end + 1
    return at


def _seal_frame(head: bytes, body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + head + body


def _ivf_frames(data: bytes, _: int) -> Pieces:
    yield Piece(b"", data[:32])
    at = 32
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack_from("<I", data, at)[0]
        if end > len(data):
            break
        yield Piece(data[at + 4 : at + 12], data[at + 12 : end], _seal_frame)
        at = end
    return at


def _units(data: bytes, _: int) -> Pieces:
    """What begins with a start code: of MPEG-PS, MPEG-4, H.264 and HEVC without a container."""
    starts = [match.start() for match in re.finditer(rb"\x00\x00\x01", data)]
    for begin, end in zip([0, *starts], [*starts, len(data)], strict=True):
        if begin < end:
            yield Piece(data[begin : min(begin + 4, end)], data[begin + 4 : end])
    return len(data)


_FORMATS: dict[str, tuple[int, bytes, Callable[[bytes, int], Pieces]]] = {
    # name -> offset, bytes that say so, how to take it apart
    "mp4": (4, b"ftyp", _boxes),
    "matroska": (0, b"\x1a\x45\xdf\xa3", _elements),
    "avi": (0, b"RIFF", _chunks),
    "asf": (0, _ASF_HEADER, _objects),
    "flv": (0, b"FLV", _tags),
    "ogg": (0, b"OggS", _pages),
    "gif": (0, b"GIF8", _gif_blocks),
    "ivf": (0, b"DKIF", _ivf_frames),
    "mpegts": (0, b"\x47", _packets),
    "units": (0, b"\0\0", _units),
}


def format_of(data: bytes) -> str:
    """Its name here; ``other`` where it has none."""
    found = (name for name, (at, magic, _) in _FORMATS.items() if data[at : at + len(magic)] == magic)
    return next(found, "other")


def split(data: bytes) -> list[Piece]:
    """The pieces of a file; one for all where its format has no name here."""
    name = format_of(data)
    return whole(_FORMATS[name][2], data) if name in _FORMATS else [Piece(b"", data)]
