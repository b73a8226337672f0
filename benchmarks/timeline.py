"""Decoding a timeline in one pass, against decoding each window separately, and against the bare decoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from actionrec.limits import DEFAULT_LIMITS
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec
from actionrec.video.container import Source
from actionrec.video.decode import decode, windows

from benchmarks.measure import interleaved_ms, report
from testing.media import encode, textured_frames

ROUNDS = 3
SPEC = ClipSpec()
SECONDS = 20
STRIDE_SECONDS = 0.5


def bare(data: bytes) -> int:
    """Decode the whole file with libavcodec on one thread; returns the number of frames."""
    with Source(data) as source:
        context = source.stream.codec_context
        return sum(len(context.decode(packet)) for packet in [*source.demux(), None])


def one_pass(data: bytes) -> int:
    """Decode all windows of the timeline; returns their number."""
    return sum(1 for _ in windows(data, SPEC, Selection(stride_seconds=STRIDE_SECONDS), DEFAULT_LIMITS))


def each_alone(data: bytes, count: int) -> None:
    """Decode the same windows as separate requests would."""
    for index in range(count):
        decode(data, SPEC, index * STRIDE_SECONDS)


def main() -> None:
    rows: list[dict[str, Any]] = []
    for width, height in ((340, 256), (1280, 720)):
        frames = textured_frames(width, height, 120)
        # Forwards and backwards, so that there is no shot boundary.
        turns = SECONDS * 30 // 120
        film = [frames if turn % 2 == 0 else frames[::-1] for turn in range(turns)]
        options = {"g": "250", "bf": "2", "preset": "veryfast"}
        data = encode(np.concatenate(film), 30, options=options)
        count = one_pass(data)
        ways: dict[str, Callable[[], object]] = {
            "bare": partial(bare, data),
            "one pass": partial(one_pass, data),
            "each alone": partial(each_alone, data, count),
        }
        taken = interleaved_ms(ways, ROUNDS)
        rows.append(
            {
                "clip": f"{width}x{height}, {SECONDS} s, {count} windows",
                "bare ms": taken["bare"],
                "one pass ms": taken["one pass"],
                "each alone ms": taken["each alone"],
                "one pass / bare": taken["one pass"] / taken["bare"],
                "each alone / one pass": taken["each alone"] / taken["one pass"],
            }
        )
    report("timeline", f"decoding a timeline of a window every {STRIDE_SECONDS} s", rows)


if __name__ == "__main__":
    main()
