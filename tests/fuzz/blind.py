"""Broken files by two numbers: number `i` of seed `s` is always the same, so they tell, and keep, a failure.

The mutations know nothing of formats; their order counts, since the numbers of `REGRESSIONS` depend on it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from actionrec.errors import ClipError
from actionrec.limits import Limits
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec

from .seeds import KINDS, valid

if TYPE_CHECKING:
    from actionrec.sandbox import Sandbox

SPEC = ClipSpec(short_side=64, crop=64)
LIMITS = Limits()
REGRESSIONS = ((0, 60), (0, 134), (0, 272), (0, 895))
"""(seed, number) of files that did harm once: by a module that was loaded too late, an error let through."""
_PATIENCE_SECONDS = 60.0
"""Beyond the limits, for a machine that has other things to do."""

Mutation = Callable[[np.random.Generator, bytearray, bytes], bytearray]


def _flip_bits(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    for place in rng.integers(0, len(data), int(rng.integers(1, 40))):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return data


def _spoil_header(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    head = min(len(data), 600)
    for place in rng.integers(0, head, int(rng.integers(1, 6))):
        data[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(0, 256))]))
    return data


def _truncate(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def _span(rng: np.random.Generator, length: int) -> tuple[int, int]:
    start = int(rng.integers(0, length))
    return start, min(length, start + int(rng.integers(1, 4000)))


def _repeat(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    start, stop = _span(rng, len(data))
    return data[:stop] + data[start:stop] * int(rng.integers(1, 50)) + data[stop:]


def _remove(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    start, stop = _span(rng, len(data))
    return data[:start] + data[stop:]


def _resize_box(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    """Another size for a box of MP4, an element of Matroska, a chunk of AVI: whatever has a name there."""
    names = [b"moov", b"trak", b"mdat", b"stsd", b"stts", b"stsz", b"stco", b"avcC", b"tkhd", b"ftyp"]
    names += [b"LIST", b"movi", b"idx1", b"strf", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\xa3", b"OggS"]
    found = [place for name in names if (place := data.find(name)) >= 0]
    if not found:
        return _spoil_header(rng, data, b"")
    place = int(rng.choice(found)) + int(rng.choice([-4, 4]))
    sizes = [0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data), int(rng.integers(0, 2**32))]
    size = struct.pack(str(rng.choice(["<I", ">I"])), int(rng.choice(np.array(sizes, dtype=np.uint64))))
    if 0 <= place <= len(data) - 4:
        data[place : place + 4] = size
    return data


def _enlarge_number(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    """Aligned numbers set to values at the edges: counts, sizes and times stand there."""
    for place in rng.integers(0, max(1, len(data) - 4), int(rng.integers(1, 8))):
        width = int(rng.choice([2, 4]))
        data[place : place + width] = rng.choice([b"\xff", b"\x7f", b"\x00", b"\x80"]).tobytes()[:1] * width
    return data


def _splice(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    return data[: int(rng.integers(0, len(data)))] + other[int(rng.integers(0, len(other))) :]


def _shuffle(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    (a, b), (c, d) = sorted((_span(rng, len(data)), _span(rng, len(data))))
    return data[:a] + data[c:d] + data[a:b] + data[d:] if b <= c else data[::-1][:a] + data[a:]


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _spoil_header,
    _truncate,
    _repeat,
    _remove,
    _resize_box,
    _enlarge_number,
    _splice,
    _shuffle,
)


@dataclass(frozen=True)
class Broken:
    """One file, and what is asked of it."""

    name: str
    data: bytes
    selection: Selection


def broken(seed: int, number: int) -> Broken:
    """File `number` of `seed`."""
    rng = np.random.default_rng([seed, number])
    kind, other = (KINDS[int(i)] for i in rng.integers(0, len(KINDS), 2))
    data = bytearray(valid(*kind))
    names = []
    for index in rng.integers(0, len(MUTATIONS), int(rng.choice([1, 1, 1, 2, 3]))):
        if data:
            data = MUTATIONS[int(index)](rng, data, valid(*other))
            names.append(MUTATIONS[int(index)].__name__)
    start = float(rng.choice([0.0, 0.0, 0.5, 30.0]))
    end = None if rng.random() < 0.7 else start + float(rng.choice([0.4, 100.0, 80_000.0]))
    return Broken(f"{'/'.join(kind)}{''.join(names)}", bytes(data), Selection(start, end))


def outcome(sandbox: Sandbox, seed: int, number: int) -> str:
    """``200``, or status and code of the error.

    Raises:
        AssertionError: another outcome, or none in time.
    """
    case = broken(seed, number)
    what = f"number {number} of seed {seed} ({case.name})"
    started = time.monotonic()
    try:
        next(sandbox.windows(case.data, SPEC, case.selection, LIMITS))
        found = "200"
    except ClipError as error:
        if not 400 <= error.status < 500:
            raise AssertionError(f"{what}: {error}") from error
        found = f"{error.status} {error.code}"
    except Exception as error:
        raise AssertionError(f"{what}: {error}") from error
    if time.monotonic() - started > LIMITS.request_seconds + _PATIENCE_SECONDS:
        raise AssertionError(f"{what}: answered after {time.monotonic() - started:.0f} s")
    return found
