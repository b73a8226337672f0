"""What decoding in a child costs beyond decoding in the process itself: one window, 32 frames at 256x256.

Both ways take turns clip by clip. The wall clock wants a quiet machine, since two processes hand the work to
each other; the CPU time, of both together, is hardly touched by neighbours. Last row: a body of 50 MB, whose
bytes have to get there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from actionrec.decode import Decoded, windows
from actionrec.limits import Limits
from actionrec.sampling import FIRST_WINDOW
from actionrec.sandbox import Sandbox
from actionrec.spec import ClipSpec

from benchmarks.measure import interleaved_ms, report
from benchmarks.videos import SIZES, video

ROUNDS = 15
SPEC = ClipSpec()
LIMITS = Limits()
PADDING = 50_000_000
"""Bytes after the end of a clip, which no decoder reads."""


def first(decoder: Callable[..., Any], data: bytes) -> Decoded:
    """The first window, as the Classifier asks for it."""
    clip: Decoded = next(decoder(data, SPEC, FIRST_WINDOW, LIMITS))
    return clip


def cpu_seconds(sandbox: Sandbox) -> float:
    """That this process and the children have used so far, to the nanosecond."""
    children = (Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii") for pid in sandbox.pids())
    return time.process_time() + sum(int(line.split()[0]) for line in children) / 1e9


def main() -> None:
    rows: list[dict[str, Any]] = []
    with Sandbox(SPEC, LIMITS, 1) as sandbox:
        for (width, height), padding in [*((size, 0) for size in SIZES), (SIZES[0], PADDING)]:
            data = video(width, height) + bytes(padding)
            assert np.array_equal(first(windows, data).frames, first(sandbox.windows, data).frames)
            ways: dict[str, Callable[[], object]] = {
                "in-process": partial(first, windows, data),
                "sandbox": partial(first, sandbox.windows, data),
            }
            taken = interleaved_ms(ways, ROUNDS)
            cpu = interleaved_ms(ways, ROUNDS, partial(cpu_seconds, sandbox))
            rows.append(
                {
                    "clip": f"{width}x{height}" + (f" and {padding / 1e6:.0f} MB" if padding else ""),
                    "in-process ms": taken["in-process"],
                    "sandbox ms": taken["sandbox"],
                    "more ms": taken["sandbox"] - taken["in-process"],
                    "more CPU ms": cpu["sandbox"] - cpu["in-process"],
                }
            )
    report("sandbox", "One window, decoded in the process itself and in a confined child", rows)


if __name__ == "__main__":
    main()
