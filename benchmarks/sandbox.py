"""What decoding in a child costs beyond decoding in the process itself: one window, 32 frames at 256x256.

The time is the caller's wall clock, since two processes share the work, so it wants a quiet machine. Both ways
take turns clip by clip. Last row: the sandbox with a body of 50 MB, whose bytes have to get there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from actionrec.decode import Decoded, windows
from actionrec.limits import Limits
from actionrec.sampling import FIRST_WINDOW
from actionrec.sandbox import Sandbox
from actionrec.spec import ClipSpec

from benchmarks.measure import interleaved_ms, report
from benchmarks.videos import SIZES, video

ROUNDS = 31
SPEC = ClipSpec()
LIMITS = Limits()
PADDING = 50_000_000
"""Bytes after the end of a clip, which no decoder reads."""


def first(decoder: Callable[..., Any], data: bytes) -> Decoded:
    """The first window, as the Classifier asks for it."""
    clip: Decoded = next(decoder(data, SPEC, FIRST_WINDOW, LIMITS))
    return clip


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
            rows.append(
                {
                    "clip": f"{width}x{height}" + (f" and {padding / 1e6:.0f} MB" if padding else ""),
                    "in-process ms": taken["in-process"],
                    "sandbox ms": taken["sandbox"],
                    "sandbox - in-process ms": taken["sandbox"] - taken["in-process"],
                }
            )
    report("sandbox", "One window, decoded in the process itself and in a confined child", rows)


if __name__ == "__main__":
    main()
