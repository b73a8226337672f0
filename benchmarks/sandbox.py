"""What decoding in a child costs beyond decoding in the process itself: one window, 32 frames at 256x256.

A request without a client's name has a child of its own, a client with a name keeps its child. All ways take
turns clip by clip. The wall clock wants a quiet machine, since two processes hand the work to each other; the
CPU time, of all together and with the fork of a child for each clip, is hardly touched by neighbours. Last
row: a body of 50 MB, whose bytes have to get there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import psutil
from actionrec.limits import Limits
from actionrec.sampling import FIRST_WINDOW
from actionrec.sandbox import Caller, Sandbox
from actionrec.spec import ClipSpec
from actionrec.video.decode import Decoded, windows

from benchmarks.measure import interleaved_ms, report
from benchmarks.videos import SIZES, video

ROUNDS = 15
CPU_RUNS = 40
_END_SECONDS = 0.5
"""Until all children that have answered have ended, and fresh ones are there."""
SPEC = ClipSpec()
LIMITS = Limits()
PADDING = 50_000_000
"""Bytes after the end of a clip, which no decoder reads."""


def first(decoder: Callable[..., Any], data: bytes) -> Decoded:
    """The first window, as the Classifier asks for it."""
    clip: Decoded = next(decoder(data, SPEC, FIRST_WINDOW, LIMITS))
    return clip


def cpu_ms(run: Callable[[], object]) -> float:
    """CPU time of one run, in milliseconds: this process's, the zygote's, and that of children that have
    ended. The kernel counts it in hundredths of a second, so of many runs together.
    """

    def seconds() -> float:
        time.sleep(_END_SECONDS)
        below = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
        return time.process_time() + sum(sum(times[:4]) for times in below)  # those that have ended, too

    before = seconds()
    for _ in range(CPU_RUNS):
        run()
    return (seconds() - before) / CPU_RUNS * 1e3


def main() -> None:
    rows: list[dict[str, Any]] = []
    with Sandbox(SPEC, LIMITS, 1) as sandbox:
        for (width, height), padding in [*((size, 0) for size in SIZES), (SIZES[0], PADDING)]:
            data = video(width, height) + bytes(padding)
            assert np.array_equal(first(windows, data).frames, first(sandbox.windows, data).frames)
            ways: dict[str, Callable[[], object]] = {
                "in-process": partial(first, windows, data),
                "a request": partial(first, sandbox.windows, data),
                "a client": partial(first, partial(sandbox.windows, caller=Caller("benchmark")), data),
            }
            taken = interleaved_ms(ways, ROUNDS)
            cpu = {name: cpu_ms(way) for name, way in ways.items()}
            row: dict[str, Any] = {
                "clip": f"{width}x{height}" + (f" and {padding / 1e6:.0f} MB" if padding else ""),
                "in-process ms": taken["in-process"],
            }
            for way in ("a request", "a client"):
                row[f"a child {way}: more ms"] = taken[way] - taken["in-process"]
                row[f"a child {way}: more CPU ms"] = cpu[way] - cpu["in-process"]
            rows.append(row)
    report("sandbox", "One window, decoded in the process itself and in a confined child", rows)


if __name__ == "__main__":
    main()
