"""The smallest input that still does what was found: delta debugging by pieces, then blocks, then bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from .case import Case
from .layout import split
from .pieces import Piece, dump

Keeps = Callable[[bytes], bool]
"""Whether an input still does it."""


def shrink(given: bytes, keeps: Keeps, seconds: float) -> bytes:
    """A smaller input for which `keeps` holds; `given` itself where there is none.

    Args:
        given: as `Case.dump` gives it.
        keeps: holds for `given`.
        seconds: after which no further try begins.
    """
    stop = time.monotonic() + seconds
    case = Case.parse(given)
    best = case.data

    def better(data: bytes) -> bool:
        return time.monotonic() < stop and keeps(Case(data, case.number).dump())

    if case.number and time.monotonic() < stop and keeps(best):
        case = Case(best)
    smaller = -1
    while smaller != len(best) and time.monotonic() < stop:
        smaller = len(best)
        best = _without_pieces(best, better)
        best = _without_blocks(best, better)
    return Case(_zeroed(best, better), case.number).dump()


def _levels(tree: list[Piece]) -> Iterator[list[Piece]]:
    yield tree
    for piece in tree:
        yield from _levels(piece.children)


def _without_pieces(data: bytes, better: Keeps) -> bytes:
    """Without runs of pieces, halving the runs; sizes and checksums stay right."""
    best, tree = data, split(data)
    # Levels are looked up anew each time: a piece that went took those below with it.
    depth = 0
    while depth < len(levels := list(_levels(tree))):
        level = levels[depth]
        run = max(1, len(level) // 2)
        while run:
            at = 0
            while at < len(level):
                taken = level[at : at + run]
                del level[at : at + run]
                found = dump(tree)
                if len(found) < len(best) and better(found):
                    best = found
                else:
                    level[at:at] = taken
                    at += run
            run //= 2
        depth += 1
    return best


def _without_blocks(data: bytes, better: Keeps) -> bytes:
    """Without runs of bytes, from half of all down to one."""
    run = len(data) // 2
    while run:
        at = 0
        while at < len(data):
            found = data[:at] + data[at + run :]
            if better(found):
                data = found
            else:
                at += run
        run //= 2
    return data


def _zeroed(data: bytes, better: Keeps) -> bytes:
    """With zeros where the bytes do not matter, to show those that do."""
    run = max(1, len(data) // 8)
    while run:
        for at in range(0, len(data), run):
            found = data[:at] + bytes(len(data[at : at + run])) + data[at + run :]
            if found != data and better(found):
                data = found
        run //= 2
    return data
