"""``python -m tests.fuzz``: valid files of every container and codec, broken in many ways, against the sandbox.

Number `i` of seed `s` is always the same file, so a failure is told, and kept, by two numbers. It goes on where
it was stopped (``build/fuzz-<seed>.json``).
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from actionrec.errors import ClipError
from actionrec.limits import Limits
from actionrec.sampling import Selection
from actionrec.sandbox import Sandbox
from actionrec.spec import ClipSpec
from rich.console import Console

from tests.media import encode, textured_frames

SPEC = ClipSpec(short_side=64, crop=64)
LIMITS = Limits()
STATE = Path("build")
REGRESSIONS = ((0, 60), (0, 134), (0, 272), (0, 895))
"""(seed, number) of files that did harm once: by a module that was loaded too late, an error let through."""
_FRAMES = 36
_PATIENCE_SECONDS = 60.0
"""Beyond the limits, for a machine that has other things to do."""
_BLOCK = 200
"""Files between two states on disk."""

_CODECS: dict[str, tuple[str, dict[str, str]]] = {
    # encoder -> pixel format, options
    "libx264": ("yuv420p", {"g": "12", "bf": "2", "preset": "ultrafast"}),
    "libx265": ("yuv420p", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "libsvtav1": ("yuv420p", {"preset": "13", "svtav1-params": "lp=1"}),
    "libvpx": ("yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "libvpx-vp9": ("yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "mpeg4": ("yuv420p", {"bf": "2"}),
    "mpeg2video": ("yuv420p", {}),
    "mpeg1video": ("yuv420p", {}),
    "mjpeg": ("yuvj420p", {}),
    "h263": ("yuv420p", {}),
    "flv": ("yuv420p", {}),
    "libtheora": ("yuv420p", {}),
    "wmv1": ("yuv420p", {}),
    "wmv2": ("yuv420p", {}),
    "msmpeg4v2": ("yuv420p", {}),
    "msmpeg4": ("yuv420p", {}),
    "prores": ("yuv422p10le", {}),
    "dnxhd": ("yuv422p", {"profile": "dnxhr_lb"}),
    "gif": ("rgb8", {}),
}
_CONTAINERS = {
    "mp4": ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "mpeg4", "mpeg2video", "mjpeg"),
    "mov": ("libx264", "mjpeg", "prores", "dnxhd", "mpeg4"),
    "3gp": ("h263", "mpeg4"),
    "matroska": (
        "libx264",
        "libx265",
        "libvpx",
        "libvpx-vp9",
        "mpeg4",
        "libtheora",
        "msmpeg4",
        "prores",
    ),
    "webm": ("libvpx", "libvpx-vp9", "libsvtav1"),
    "avi": ("libx264", "mpeg4", "mjpeg", "msmpeg4v2", "msmpeg4", "wmv1"),
    "mpegts": ("libx264", "libx265", "mpeg2video"),
    "mpeg": ("mpeg1video", "mpeg2video"),
    "flv": ("libx264", "flv"),
    "asf": ("wmv1", "wmv2", "msmpeg4"),
    "ogg": ("libtheora", "libvpx"),
    "gif": ("gif",),
    "ivf": ("libvpx", "libvpx-vp9", "libsvtav1"),
    "h264": ("libx264",),
    "hevc": ("libx265",),
    "m4v": ("mpeg4",),
    "mpeg2video": ("mpeg2video",),
}
KINDS = tuple(
    (container, codec)
    for container, codecs in _CONTAINERS.items()
    for codec in codecs
    if codec in av.codecs_available
)
"""(container, encoder) of all that this PyAV can make."""


@cache
def valid(container: str, codec: str) -> bytes:
    """A good file."""
    width, height = (176, 144) if codec == "h263" else (256, 128) if codec == "dnxhd" else (96, 64)
    pix_fmt, options = _CODECS[codec]
    frames = textured_frames(width, height, _FRAMES)
    return encode(frames, codec=codec, container=container, pix_fmt=pix_fmt, options=options)


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


def main() -> int:
    """Run, go on, or look at one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this number alone, with its error in full")
    given = parser.parse_args()
    console = Console(highlight=False)
    with Sandbox(SPEC, LIMITS) as sandbox:
        if given.only is not None:
            console.print(broken(given.seed, given.only).name, outcome(sandbox, given.seed, given.only))
            return 0
        return _run(sandbox, given.seed, given.count, console)


def _run(sandbox: Sandbox, seed: int, count: int, console: Console) -> int:
    STATE.mkdir(exist_ok=True)
    path = STATE / f"fuzz-{seed}.json"
    state: dict[str, Any] = {"done": 0, "outcomes": {}, "failures": []}
    if path.exists():
        state = json.loads(path.read_text(encoding="utf-8"))
    outcomes = Counter(state["outcomes"])

    def once(number: int) -> str:
        try:
            return outcome(sandbox, seed, number)
        except AssertionError as error:
            console.print(str(error), style="red", markup=False)
            state["failures"].append(number)
            return "FAILED"

    with ThreadPoolExecutor() as pool:
        while state["done"] < count:
            numbers = range(state["done"], min(state["done"] + _BLOCK, count))
            outcomes.update(pool.map(once, numbers))
            state |= {"done": numbers.stop, "outcomes": dict(outcomes)}
            path.write_text(json.dumps(state), encoding="utf-8")
            console.print(f"{numbers.stop:,} of {count:,}, {len(state['failures'])} failures")
    for name, times in outcomes.most_common():
        console.print(f"{times:7,}  {name}")
    console.print(f"failures: {state['failures'] or 'none'}; children lost: {sandbox.replaced}")
    return 1 if state["failures"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
