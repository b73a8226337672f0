"""Decoding a window, 32 frames ready at the model's size, against the bare decoder and the usual ways.

Times are of the one thread that works, so neighbours on the machine hardly touch them.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import av
import numpy as np
import torch
from actionrec.container import Source
from actionrec.decode import decode
from actionrec.sampling import uniform_indices, window_ticks
from actionrec.spec import ClipSpec

from benchmarks.measure import interleaved_ms, report
from benchmarks.videos import kinds, video
from tests.reference import reference_pathways

ROUNDS = 7
SPEC = ClipSpec()


def bare(data: bytes, start_seconds: float) -> int:
    """What libavcodec needs for the packets of the window, the key frame before it included, on one thread."""
    end_seconds = start_seconds + SPEC.window_seconds
    with Source(data) as source:
        first, stop = window_ticks(start_seconds, end_seconds, source.time_base, source.origin)
        context = source.stream.codec_context
        return sum(len(context.decode(packet)) for packet in [*source.packets(first, stop), None])


def naive(data: bytes, start_seconds: float) -> torch.Tensor:
    """PyAV as tutorials use it: every frame from the start converted, then resized with torch."""
    stop = start_seconds + SPEC.window_seconds
    frames = []
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(video=0):
            if frame.time >= stop:
                break
            if frame.time >= start_seconds:
                frames.append(frame.to_ndarray(format="rgb24"))
    picked = np.stack([frames[i] for i in uniform_indices(len(frames), SPEC.num_frames)])
    pixels = torch.from_numpy(picked).permute(0, 3, 1, 2).float()
    scale = SPEC.short_side / min(pixels.shape[2:])
    return torch.nn.functional.interpolate(pixels, scale_factor=scale, mode="bilinear")


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for width, height, gop, b_frames in kinds():
        data = video(width, height, gop, b_frames)
        for start in (0.0, 1.7):
            ways: dict[str, Callable[[], object]] = {
                "bare": partial(bare, data, start),
                "ours": partial(decode, data, SPEC, start),
            }
            taken = interleaved_ms(ways, ROUNDS, time.thread_time)
            # The usual ways take seconds a clip: once each is enough to see the factor.
            slow: dict[str, Callable[[], object]] = {
                "PyAV": partial(naive, data, start),
                "pytorchvideo": partial(reference_pathways, data, SPEC, start),
            }
            others = interleaved_ms(slow, 1, time.thread_time) if gop == 250 and b_frames == 2 else {}
            rows.append(
                {
                    "clip": f"{width}x{height} GOP {gop} B {b_frames} from {start} s",
                    "bare ms": taken["bare"],
                    "ours ms": taken["ours"],
                    "(ours - 5 ms) / bare": (taken["ours"] - 5) / taken["bare"],
                    "PyAV / ours": others["PyAV"] / taken["ours"] if others else "",
                    "pytorchvideo / ours": others["pytorchvideo"] / taken["ours"] if others else "",
                }
            )
    report("decode", "32 frames of a window at the model's size, ms of one thread", rows)


if __name__ == "__main__":
    main()
