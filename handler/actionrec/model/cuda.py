"""What a GPU gains by: pinned buffers and a stream for the frames, and CUDA graphs for a few batch sizes.

frames (NumPy) -> pinned buffer -> [copy stream] -> device -> normalise, pack -> graph of the next batch size
                  two of them, so that the next batch is copied while this one is computed
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import first_line
from ..spec import ClipSpec
from .loaders import Module

logger = logging.getLogger(__name__)

BATCHES = (1, 2, 4, 8, 16)
"""Batch sizes that a GPU runs; others are filled up to the next one."""
_BUFFERS = 2
_WARM_UP_RUNS = 3
_TOLERANCE = 0.05
"""Of a logit, between a graph's replay and the same model called plainly, in half precision."""


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


class Uploader:
    """Copies clips to a GPU without making it, or the thread that computes, wait.

    Args:
        spec: size of a clip.
        batch: the most clips of one upload.
        device: a GPU.
    """

    def __init__(self, spec: ClipSpec, batch: int, device: torch.device) -> None:
        shape = (batch, spec.num_frames, spec.crop, spec.crop, 3)
        self._buffers = [torch.empty(shape, dtype=torch.int16, pin_memory=True) for _ in range(_BUFFERS)]
        self._copied = [torch.cuda.Event() for _ in range(_BUFFERS)]  # type: ignore[no-untyped-call]
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._device = device
        self._turn = 0

    def __call__(self, frames: Sequence[npt.NDArray[np.int16]]) -> torch.Tensor:
        """Clips int16 [T, H, W, 3] each -> int16 [B, T, H, W, 3] on the device's current stream."""
        turn = self._turn
        self._turn = (turn + 1) % _BUFFERS
        self._copied[turn].synchronize()  # the copy of two uploads ago
        pinned = self._buffers[turn][: len(frames)]
        np.stack(frames, out=pinned.numpy())
        with torch.cuda.stream(self._stream):
            moved = pinned.to(self._device, non_blocking=True)
            self._copied[turn].record()
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        moved.record_stream(current)
        return moved


class Graphs:
    """A model that is called with a few batch sizes only, each replayed from a CUDA graph.

    A batch is filled up to the next size; what the added rows give is dropped. So no size is compiled, nor its
    kernels chosen, while a request waits. A size whose graph cannot be captured, or gives other logits than the
    model itself, is called plainly.

    Args:
        module: on the GPU; takes any batch size.
        spec: size of a clip.
        dtype: of the pathways.
        device: a GPU.
    """

    def __init__(self, module: Module, spec: ClipSpec, dtype: torch.dtype, device: torch.device) -> None:
        self._module = module
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = None
        # Of the largest batch; smaller ones are its first rows.
        self._inputs = [
            torch.randn(BATCHES[-1], 3, count, spec.crop, spec.crop, dtype=dtype, device=device)
            for count in spec.pathways
        ]
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

    def __call__(self, pathways: list[torch.Tensor]) -> torch.Tensor:
        """The pathways, of at most the largest batch -> logits [B, classes]; valid until the next call."""
        count = pathways[0].shape[0]
        batch = next(size for size in BATCHES if size >= count)
        inputs = self._rows(batch)
        for mine, given in zip(inputs, pathways, strict=True):
            mine[:count].copy_(given)
        captured = self._graphs.get(batch)
        if captured is None:
            return self._module(inputs)[:count]
        graph, logits = captured
        graph.replay()
        return logits[:count]

    def _rows(self, batch: int) -> list[torch.Tensor]:
        return [each[:batch] for each in self._inputs]

    def _capture(self, batch: int, device: torch.device) -> None:
        inputs = self._rows(batch)
        for given in inputs:
            given.normal_()
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_RUNS):  # so that cuDNN's choice of kernels is not captured
                self._module(list(inputs))
        torch.cuda.current_stream(device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # A stream of this device: torch's own is one of the device that was current when it was first used, and
        # a capture there holds none of this device's kernels (pytorch/pytorch#87894).
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            logits = self._module(list(inputs))
        self._pool = self._pool or graph.pool()
        # Other clips than the captured ones, each of its own brightness, and no logits left: a graph that does
        # nothing, or does the same again, fails here.
        brightness = torch.linspace(-1, 1, batch, dtype=logits.dtype, device=device).view(-1, 1, 1, 1, 1)
        for given in inputs:
            given.normal_().add_(brightness)
        expected = self._module(list(inputs)).clone()
        logits.fill_(torch.nan)
        graph.replay()
        difference = float((logits.float() - expected.float()).abs().max())
        if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
            raise RuntimeError(f"its logits differ by {difference:.3g}")
        self._graphs[batch] = (graph, logits)
