"""What a GPU gains by: pinned memory and a stream for the frames, and CUDA graphs for a few batch sizes.

frames in pinned memory -> [copy stream] -> frames on the GPU -> graph of the next batch size -> pinned memory
                           batch n + 1 while batch n is in the     normalise, pack, trunk, head

Nothing here waits for the GPU; `running` does, when somebody asks for the scores.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..errors import first_line
from ..spec import STEPS_PER_LEVEL, ClipSpec
from ..video.resize import Pixels

logger = logging.getLogger(__name__)

BATCHES = (1, 2, 4, 8, 16)
"""Batch sizes that a GPU runs; others are filled up to the next one."""
_WARM_UP_RUNS = 3
_TOLERANCE = 0.05
"""Largest difference between a graph's outputs and those of the same model called plainly, as a share of the
largest output: in half precision two runs of cuDNN are not the same."""
_WHITE = 255 * STEPS_PER_LEVEL

Outputs = tuple[Tensor, Sequence[Tensor]]
"""Probabilities float32 [B, classes], and the last feature maps [B, C, t, h, w], one a pathway."""

Whole = Callable[[Tensor], Outputs]
"""Frames int16 [B, T, H, W, 3] on the device -> `Outputs`."""


def make_current(device: torch.device | str) -> torch.device:
    """Make a GPU this thread's current one and return it with its number; another device is returned as it is.

    Before anything else touches CUDA: streams, pinned memory and a context are otherwise made on GPU 0.
    """
    device = torch.device(device)
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        torch.cuda.set_device(device)
    return device


def current(device: torch.device) -> AbstractContextManager[object]:
    """Have a GPU be the current one inside the block, in whichever thread; nothing for another device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def pinned(shape: tuple[int, ...]) -> Pixels:
    """Memory for frames that a GPU copies from by itself: an int16 array, not set.

    torch keeps freed blocks for the next caller, since pinning takes milliseconds.
    """
    memory: Pixels = torch.empty(shape, dtype=torch.int16, pin_memory=True).numpy()
    return memory


def fetched(values: Tensor) -> Tensor:
    """A copy in pinned memory, float32, which is there once the current stream has come to it."""
    host = torch.empty(values.shape, dtype=torch.float32, pin_memory=True)
    return host.copy_(values.float().contiguous(), non_blocking=True)


class Uploader:
    """Copies clips to a GPU on a stream of its own: neither the thread that asks nor the model waits.

    Args:
        spec: size of a clip.
        device: a GPU.
    """

    def __init__(self, spec: ClipSpec, device: torch.device) -> None:
        self._shape = (spec.num_frames, spec.crop, spec.crop, 3)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._device = device
        self._under_way: deque[tuple[Any, list[Pixels]]] = deque()

    def __call__(self, frames: Sequence[Pixels]) -> Tensor:
        """Clips int16 [T, H, W, 3] each -> int16 [B, T, H, W, 3] for the device's current stream.

        Clips in other memory than `pinned` are copied as well, but the caller waits for those.
        """
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            batch = torch.empty((len(frames), *self._shape), dtype=torch.int16, device=self._device)
            for row, clip in zip(batch, frames, strict=True):
                row.copy_(torch.from_numpy(clip), non_blocking=True)
            copied.record()
        model = torch.cuda.current_stream(self._device)
        model.wait_event(copied)
        batch.record_stream(model)
        # Frames stay where they are until they have been copied.
        while self._under_way and self._under_way[0][0].query():
            self._under_way.popleft()
        self._under_way.append((copied, list(frames)))
        return batch


class Graphs:
    """A model that is called with a few batch sizes only, each replayed from a CUDA graph.

    A batch is filled up to the next size; what the added rows give is dropped. So no size is compiled, nor its
    kernels chosen, while a request waits. A size whose graph cannot be captured, or gives other outputs than
    the model itself, is called plainly.

    Args:
        whole: the model from frames to scores, on the GPU; takes any batch size.
        spec: size of a clip.
        device: a GPU.
    """

    def __init__(self, whole: Whole, spec: ClipSpec, device: torch.device) -> None:
        self._whole = whole
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Outputs]] = {}
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = None
        # Of the largest batch; smaller ones are its first rows.
        shape = (BATCHES[-1], spec.num_frames, spec.crop, spec.crop, 3)
        self._frames = torch.zeros(shape, dtype=torch.int16, device=device)
        # The largest first: the others find room in its memory, since only one of them runs at a time.
        for batch in reversed(BATCHES):
            try:
                self._capture(batch, device)
            except RuntimeError as error:
                torch.cuda.synchronize(device)
                logger.warning("No CUDA graph for a batch of %d: %s", batch, first_line(error))

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes that have a graph."""
        return tuple(sorted(self._graphs))

    def __call__(self, frames: Tensor) -> Outputs:
        """Frames, of at most the largest batch -> outputs, which are valid until the next call."""
        count = len(frames)
        batch = next(size for size in BATCHES if size >= count)
        self._frames[:count].copy_(frames)
        captured = self._graphs.get(batch)
        if captured is None:
            scores, maps = self._whole(self._frames[:batch])
        else:
            graph, (scores, maps) = captured
            graph.replay()
        return scores[:count], [one[:count] for one in maps]

    def _capture(self, batch: int, device: torch.device) -> None:
        frames = self._frames[:batch]
        _fill(frames, darkest=0)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_RUNS):  # so that cuDNN's choice of kernels is not captured
                self._whole(frames)
        torch.cuda.current_stream(device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # A stream of this device: torch's own is one of the device that was current when it was first used, and
        # a capture there holds none of this device's kernels (pytorch/pytorch#87894).
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            outputs = self._whole(frames)
        self._pool = self._pool or graph.pool()
        # Other clips than the captured ones, and no outputs left: a graph that does nothing, or does the same
        # again, fails here.
        _fill(frames, darkest=_WHITE // 2)
        expected = [each.clone() for each in _flat(self._whole(frames))]
        for each in _flat(outputs):
            each.fill_(torch.nan)
        graph.replay()
        for each, right in zip(_flat(outputs), expected, strict=True):
            difference = float((each.float() - right.float()).abs().max())
            if not difference <= _TOLERANCE * float(right.float().abs().max()):
                raise RuntimeError(f"its outputs differ by {difference:.3g}")
        self._graphs[batch] = (graph, outputs)


def _fill(frames: Tensor, darkest: int) -> None:
    """Set frames, int16 [B, T, H, W, 3], to noise, each clip of its own brightness.

    Args:
        frames: are overwritten.
        darkest: least value of the first clip; half of white is free above it.
    """
    steps = torch.linspace(0, _WHITE // 4, len(frames), device=frames.device).to(torch.int16)
    frames.random_(0, _WHITE // 4).add_(steps.view(-1, 1, 1, 1, 1)).add_(darkest)


def _flat(outputs: Outputs) -> list[Tensor]:
    scores, maps = outputs
    return [scores, *maps]
