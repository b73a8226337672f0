"""Decoding a window (32 frames at the model's size), against the bare decoder and the usual ways.

A window's time is the wall-clock time until it is ready; its work is the CPU time of its threads together.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import av
import cv2
import numpy as np
import torch
from actionrec.sampling import uniform_indices, window_ticks
from actionrec.spec import ClipSpec
from actionrec.video.container import Source
from actionrec.video.decode import decode
from actionrec.video.packets import NearTrack

from benchmarks.measure import console, interleaved_ms, report
from benchmarks.videos import FPS, kinds, video
from testing.reference import reference_pathways

ROUNDS = 7
SPEC = ClipSpec()


def bare(data: bytes, start_seconds: float) -> int:
    """Decode the window's packets, from the key frame before it, with libavcodec on one thread."""
    end_seconds = start_seconds + SPEC.window_seconds
    with Source(data) as source:
        first, stop = window_ticks(start_seconds, end_seconds, source.time_base, source.origin)
        context = source.stream.codec_context
        packets = [packet for _, packet in NearTrack(source, first, stop).read(())]
        return sum(len(context.decode(packet)) for packet in [*packets, None])


def naive(data: bytes, start_seconds: float) -> torch.Tensor:
    """PyAV as in tutorials: convert every frame from the start, then resize with torch."""
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


def torchcodec(data: bytes, start_seconds: float) -> torch.Tensor:
    """Torchcodec's decoder: only the sampled frames, then torch's resize. Fails where it is not installed."""
    from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined,unused-ignore]

    decoder = VideoDecoder(data, num_ffmpeg_threads=1, seek_mode="approximate")
    first, count = _window_frames(start_seconds)
    frames = decoder.get_frames_at([first + i for i in uniform_indices(count, SPEC.num_frames).tolist()]).data
    return _resized(frames.float())


def decord(data: bytes, start_seconds: float) -> torch.Tensor:
    """Decord's reader, the same way."""
    from decord import VideoReader

    reader = VideoReader(io.BytesIO(data), num_threads=1)
    first, count = _window_frames(start_seconds)
    frames = reader.get_batch([first + i for i in uniform_indices(count, SPEC.num_frames).tolist()]).asnumpy()
    return _resized(torch.from_numpy(frames).permute(0, 3, 1, 2).float())


def _window_frames(start_seconds: float) -> tuple[int, int]:
    """First frame and number of frames of the window, in the constant-rate clips that are measured here."""
    first = round(start_seconds * FPS)
    return first, round(SPEC.window_seconds * FPS)


def _resized(pixels: torch.Tensor) -> torch.Tensor:
    """float32 [T, 3, H, W] -> the model's size: [T, 3, crop, crop]."""
    height, width = pixels.shape[2:]
    scale = SPEC.short_side / min(height, width)
    size = (round(height * scale), int(width * scale))
    resized = torch.nn.functional.interpolate(pixels, size=size, mode="bilinear")
    left = round((size[1] - SPEC.crop) / 2)
    return resized[:, :, : SPEC.crop, left : left + SPEC.crop]


def _installed() -> dict[str, Callable[[bytes, float], torch.Tensor]]:
    """The peers that are here, each checked to give the frames that we give."""
    found: dict[str, Callable[[bytes, float], torch.Tensor]] = {}
    data = video(340, 256)
    ours = torch.from_numpy(decode(data, SPEC).rounded()).permute(0, 3, 1, 2).float()
    for name, run in (("torchcodec", torchcodec), ("decord", decord)):
        try:
            difference = float((run(data, 0.0) - ours).abs().mean())
        except (ImportError, RuntimeError, OSError) as error:
            console.print(f"{name} is left out: {str(error).splitlines()[0]}", style="yellow")
            continue
        if difference > 3:
            raise RuntimeError(f"{name} gives other frames: {difference:.1f} levels away on average")
        found[name] = run
    return found


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # as in a decoding child
    rows: list[dict[str, Any]] = []
    installed = _installed()
    for width, height, gop, b_frames in kinds():
        data = video(width, height, gop, b_frames)
        for start in (0.0, 1.7):
            ways: dict[str, Callable[[], object]] = {
                "bare": partial(bare, data, start),
                "ours": partial(decode, data, SPEC, start),
            }
            taken = interleaved_ms(ways, ROUNDS)
            work = interleaved_ms(ways, ROUNDS, time.process_time)
            # The usual ways take seconds a clip: a few times each is enough to see the factor. What is compared
            # is work, not how many cores it is spread over.
            slow: dict[str, Callable[[], object]] = {
                "PyAV": partial(naive, data, start),
                "pytorchvideo": partial(reference_pathways, data, SPEC, start),
                **{name: partial(run, data, start) for name, run in installed.items()},
            }
            others = interleaved_ms(slow, 3, time.process_time) if gop == 250 and b_frames == 2 else {}
            rows.append(
                {
                    "clip": f"{width}x{height} GOP {gop} B {b_frames} from {start} s",
                    "bare ms": taken["bare"],
                    "ours ms": taken["ours"],
                    "(ours - 5 ms) / bare": (taken["ours"] - 5) / taken["bare"],
                    "work": (work["ours"] - 5) / work["bare"],
                    **{f"{name} / ours": others[name] / work["ours"] if others else "" for name in slow},
                }
            )
    report("decode", "32 frames of a window at the model's size; work: (ours - 5 ms) / bare in CPU time", rows)


if __name__ == "__main__":
    main()
