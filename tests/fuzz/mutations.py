"""Another input out of one or two: changes to a file's pieces, which leave the rest of it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from . import blind
from .case import SELECTIONS, Case
from .layout import format_of, split
from .pieces import Piece, dump
from .seeds import MOST_BYTES

Rng = np.random.Generator
Tree = list[Piece]
Place = tuple[Tree, int]
"""A piece: the list that it is in, and where."""

_TAGS: tuple[tuple[bytes, ...], ...] = (
    # Names of codecs that may stand in each other's place: of equal length, so that nothing moves.
    (
        b"avc1",
        b"hvc1",
        b"av01",
        b"vp09",
        b"mp4v",
        b"jpeg",
        b"apcn",
        b"AVdn",
        b"s263",
        b"m2v1",
        b"vc-1",
        b"WMV3",
    ),
    (
        b"H264",
        b"HEVC",
        b"FMP4",
        b"MJPG",
        b"DIV3",
        b"MP42",
        b"MPG4",
        b"WMV1",
        b"WMV2",
        b"WVC1",
        b"VP80",
        b"VP90",
    ),
    (b"V_VP8", b"V_VP9", b"V_AV1"),
    (b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/ASP"),
)
_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_MOST_DOUBLINGS = 10
_MOST_NESTED = 32
"""Times that a piece is put into itself."""
_RESEALED_SHARE = 0.65
"""Of all inputs; the others are broken blindly."""


def _some(rng: Rng, choices: int) -> int:
    return int(rng.integers(0, choices))


def _places(tree: Tree) -> Iterator[Place]:
    for at, piece in enumerate(tree):
        yield tree, at
        yield from _places(piece.children)


def _pick(rng: Rng, tree: Tree) -> Place:
    """A piece, each level of the tree as likely as the others: tables are few and packets many."""
    level, at = tree, _some(rng, len(tree))
    while level[at].children and rng.random() < 0.7:
        level = level[at].children
        at = _some(rng, len(level))
    return level, at


def _remove(rng: Rng, tree: Tree, _: Tree) -> None:
    level, at = _pick(rng, tree)
    del level[at]


def _repeat(rng: Rng, tree: Tree, _other: Tree) -> None:
    level, at = _pick(rng, tree)
    room = MOST_BYTES // max(1, len(level[at].dump()))
    copies = 1 << _some(rng, min(_MOST_DOUBLINGS, room.bit_length()) + 1)
    level[at:at] = [level[at].copy() for _ in range(copies)]


def _exchange(rng: Rng, tree: Tree, _: Tree) -> None:
    level, at = _pick(rng, tree)
    other = _some(rng, len(level))
    level[at], level[other] = level[other], level[at]


def _move(rng: Rng, tree: Tree, _: Tree) -> None:
    level, at = _pick(rng, tree)
    piece = level.pop(at)
    places = list(_places(tree)) or [(tree, 0)]
    goal, at = places[_some(rng, len(places))]
    goal.insert(at, piece)


def _nest(rng: Rng, tree: Tree, _other: Tree) -> None:
    level, at = _pick(rng, tree)
    inner = level[at].copy()
    for _ in range(1 + _some(rng, _MOST_NESTED)):
        inner = Piece(level[at].head, level[at].body, level[at].seal, [inner])
    level[at] = inner


def _transplant(rng: Rng, tree: Tree, other: Tree) -> None:
    level, at = _pick(rng, tree)
    donor, place = _pick(rng, other)
    level.insert(at, donor[place].copy())


def _exchange_body(rng: Rng, tree: Tree, other: Tree) -> None:
    """The body of another file's piece of the same name: its decoder's setup, its sample table."""
    level, at = _pick(rng, tree)
    same = [donor[place] for donor, place in _places(other) if donor[place].head[:4] == level[at].head[:4]]
    if same:
        donor = same[_some(rng, len(same))].copy()
        level[at].body, level[at].children = donor.body, donor.children


def _rename(rng: Rng, tree: Tree, other: Tree) -> None:
    level, at = _pick(rng, tree)
    donor, place = _pick(rng, other if rng.random() < 0.5 else tree)
    level[at].head, level[at].seal = donor[place].head, donor[place].seal


def _set_number(rng: Rng, tree: Tree, _other: Tree) -> None:
    level, at = _pick(rng, tree)
    piece = level[at]
    for _ in range(1 + _some(rng, 3)):
        inside_head = bool(piece.head) and rng.random() < 0.2
        target = bytearray(piece.head if inside_head else piece.body)
        width = int(rng.choice([1, 2, 4, 8]))
        if len(target) < width:
            return
        # Numbers that matter stand at the start of a piece.
        place = _some(rng, min(len(target) - width + 1, 64 if rng.random() < 0.7 else len(target)))
        number = _NUMBERS[_some(rng, len(_NUMBERS))] & ((1 << 8 * width) - 1)
        target[place : place + width] = number.to_bytes(width, "big" if rng.random() < 0.6 else "little")
        if inside_head:
            piece.head = bytes(target)
        else:
            piece.body = bytes(target)


def _flip(rng: Rng, tree: Tree, _: Tree) -> None:
    level, at = _pick(rng, tree)
    body = bytearray(level[at].body)
    for place in rng.integers(0, len(body), 1 + _some(rng, 8)) if body else ():
        body[int(place)] ^= 1 << _some(rng, 8)
    level[at].body = bytes(body)


def _resize_body(rng: Rng, tree: Tree, _: Tree) -> None:
    level, at = _pick(rng, tree)
    body = level[at].body
    cut = _some(rng, len(body) + 1)
    level[at].body = body[:cut] if rng.random() < 0.6 else body[:cut] * (1 + _some(rng, 64)) + body[cut:]


_CHANGES: tuple[Callable[[Rng, Tree, Tree], None], ...] = (
    _remove,
    _repeat,
    _exchange,
    _move,
    _nest,
    _transplant,
    _exchange_body,
    _rename,
    _set_number,
    _set_number,
    _set_number,
    _flip,
    _flip,
    _resize_body,
)


def _retag(rng: Rng, data: bytes) -> bytes:
    """Another codec's name in the place of a codec's name."""
    found = [(tag, tags) for tags in _TAGS for tag in tags if tag in data]
    if not found:
        return data
    tag, tags = found[_some(rng, len(found))]
    return data.replace(tag, tags[_some(rng, len(tags))])


def changed(rng: Rng, data: bytes, other: bytes) -> bytes:
    """A file with one to four pieces changed, or broken without regard for them.

    Args:
        data: the file.
        other: another one, whose pieces may come into it.
    """
    if rng.random() < 0.04:
        return _retag(rng, data)
    if rng.random() >= _RESEALED_SHARE:
        broken = bytearray(data)
        if broken and other:
            broken = blind.MUTATIONS[_some(rng, len(blind.MUTATIONS))](rng, broken, other)
        return bytes(broken)
    tree = split(data)
    parts = split(other) if format_of(other) == format_of(data) else [piece.copy() for piece in tree]
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        if tree and parts:
            _CHANGES[_some(rng, len(_CHANGES))](rng, tree, parts)
    return dump(tree)


def mutate(given: bytes, other: bytes, most: int, seed: int) -> bytes:
    """Another input of at most `most` bytes out of one, and of pieces of another one."""
    rng = np.random.default_rng(seed)
    case = Case.parse(given)
    number = _some(rng, len(SELECTIONS)) if rng.random() < 0.1 else case.number
    for _ in range(3):
        found = Case(changed(rng, case.data, Case.parse(other).data), number).dump()
        if len(found) <= most:
            return found
    return found[:most]


def splice(given: bytes, other: bytes, most: int, seed: int) -> bytes:
    """An input of at most `most` bytes: the first pieces of one file and the last ones of another."""
    rng = np.random.default_rng(seed)
    first, second = Case.parse(given), Case.parse(other)
    if format_of(first.data) != format_of(second.data):
        return mutate(given, other, most, seed)
    head, tail = split(first.data), split(second.data)
    # Of formats whose top level is one piece (RIFF, Matroska's segment), the level below is cut.
    if 0 < len(head) <= 2 and head[-1].children and tail and tail[-1].children:
        head[-1].children = _crossed(rng, head[-1].children, tail[-1].children)
    else:
        head = _crossed(rng, head, tail)
    return Case(dump(head), first.number).dump()[:most]


def _crossed(rng: Rng, head: Tree, tail: Tree) -> Tree:
    return head[: _some(rng, len(head) + 1)] + tail[_some(rng, len(tail) + 1) :]
