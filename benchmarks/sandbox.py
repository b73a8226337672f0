"""The extra cost of decoding in a child process: one window, 32 frames at 256x256.

A request without a client's name gets a fresh child, a client with a name keeps its child. All ways take turns
clip by clip. Wall-clock times need a quiet machine, since two processes hand work to each other. CPU times
hardly depend on other work; they include all processes, and the fork of a child for each clip. The last row is
a body of 50 MB, whose bytes must reach the child.
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
"""Seconds in which all children that have answered end, and fresh ones start."""
SPEC = ClipSpec()
LIMITS = Limits()
PADDING = 50_000_000
"""Bytes after the end of a clip, which no decoder reads."""


def first(decoder: Callable[..., Any], data: bytes) -> Decoded:
    """The first view, as the Classifier asks for it."""
    view: Decoded = next(decoder(data, SPEC, FIRST_WINDOW, LIMITS))
    return view


def cpu_ms(run: Callable[[], object]) -> float:
    """CPU milliseconds of one run: of this process, the zygote, and the children that have ended. The kernel
    counts in hundredths of a second, so many runs are measured together.
    """

    def seconds() -> float:
        time.sleep(_END_SECONDS)
        below = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
        return time.process_time() + sum(sum(times[:4]) for times in below)  # includes ended children

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
