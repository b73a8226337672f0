"""CUDA played by the CPU: two GPUs, streams, events and graphs, so that their use can be tested without one.

A graph is a tape of the operations that were captured; a replay does them again, into the same outputs. As on
real GPUs, a capture on a stream of another device than the model's holds nothing.

Where `FakeCuda.costs` says so, copies and replays take time by a clock of their own: each stream does one thing
after the other, beginning when the host has asked for it; the host waits only for events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from actionrec.model import transform
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_Operation = Callable[..., object]
_Arguments = tuple[object, ...]


@dataclass
class FakeCuda:
    """Two GPUs. Tensors "on" one are the CPU's."""

    index: int = 0
    """The current GPU, CUDA's 0 until someone says otherwise."""
    model_index: int = 1
    """The GPU whose kernels a capture looks for."""
    touched: list[int] = field(default_factory=list)
    """GPUs on which a context, a stream or an event was made, in order."""
    captures: list[tuple[_Stream, object]] = field(default_factory=list)
    """The stream and the pool of each capture."""
    capability: tuple[int, int] = (9, 0)
    costs: Costs | None = None
    """How long things take; None: nothing takes time."""
    now: float = 0.0
    """The host's time."""
    work: list[tuple[str, float, float]] = field(default_factory=list)
    """What streams have done, with its start and its end."""
    streams: dict[int, _Stream] = field(default_factory=dict)
    """The default stream of each GPU."""
    stream: _Stream | None = None
    """The one inside `torch.cuda.stream`."""

    def touch(self, index: int | None = None) -> int:
        self.touched.append(self.index if index is None else index)
        return self.touched[-1]

    def current_stream(self, device: torch.device | None = None) -> _Stream:
        index = self.index if device is None else _index(device)
        return self.stream or self.streams.setdefault(index, _Stream(index, self))

    def spend(self, what: str, seconds: float) -> None:
        """Let the current stream work."""
        stream = self.current_stream()
        start = max(self.now, stream.free_at)
        stream.free_at = start + seconds
        self.work.append((what, start, stream.free_at))

    @contextmanager
    def in_stream(self, stream: _Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        with self.on(stream.index):
            yield
        self.stream = before

    @contextmanager
    def on(self, device: torch.device | int) -> Iterator[None]:
        before, self.index = self.index, _index(device)
        try:
            yield
        finally:
            self.index = before


def _index(device: torch.device | str | int) -> int:
    if isinstance(device, int):
        return device
    return (torch.device(device) if isinstance(device, str) else device).index or 0


@dataclass(frozen=True)
class Costs:
    """Seconds that a GPU takes."""

    upload: float
    """For a clip's frames."""
    replay: float
    """For a graph, whatever its batch."""
    download: float
    """For one tensor of results."""


class _Stream:
    """The CPU does its work at once; `free_at` says when a GPU would have."""

    def __init__(self, index: int, world: FakeCuda) -> None:
        self.index = index
        self.world = world
        self.free_at = 0.0
        self.cuda_stream = id(self)  # its handle, for other libraries

    def wait_stream(self, other: _Stream) -> None:
        self.free_at = max(self.free_at, other.free_at)

    def wait_event(self, event: _Event) -> None:
        self.free_at = max(self.free_at, event.at)


class _Event:
    def __init__(self, world: FakeCuda) -> None:
        self.world = world
        self.at = 0.0

    def record(self, stream: _Stream | None = None) -> None:
        self.at = (stream or self.world.current_stream()).free_at

    def query(self) -> bool:
        return self.at <= self.world.now

    def synchronize(self) -> None:
        self.world.now = max(self.world.now, self.at)


class _Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that is done inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[_Operation, _Arguments, dict[str, object], object]] = []

    def __torch_dispatch__(
        self, func: _Operation, types: object, args: _Arguments = (), kwargs: dict[str, object] | None = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out


class _Graph:
    def __init__(self, world: FakeCuda) -> None:
        self.world = world
        self.tape = _Tape()
        self.shared: object = None

    def replay(self) -> None:
        if self.world.costs is not None:
            self.world.spend("replay", self.world.costs.replay)
        for func, args, kwargs, out in self.tape.calls:
            again = func(*args, **kwargs)
            if isinstance(out, torch.Tensor) and isinstance(again, torch.Tensor):
                out.copy_(again)

    def pool(self) -> object:
        return self.shared


class _OnTheCpu(TorchFunctionMode):
    """Tensors that are wanted on a GPU, or pinned, are made on the CPU; copies that do not block take time."""

    def __init__(self, world: FakeCuda) -> None:
        super().__init__()
        self._world = world

    def __torch_function__(
        self, func: _Operation, types: object, args: _Arguments = (), kwargs: dict[str, object] | None = None
    ) -> object:
        if isinstance(func, type):  # torch.device itself
            return func(*args, **(kwargs or {}))
        costs = self._world.costs
        copies = getattr(func, "__name__", "") == "copy_" and (kwargs or {}).get("non_blocking")
        if copies and costs is not None:
            up = isinstance(args[0], torch.Tensor) and args[0].dtype == torch.int16
            self._world.spend(*(("upload", costs.upload) if up else ("download", costs.download)))
        kwargs = {name: _cpu(value) for name, value in (kwargs or {}).items() if name != "pin_memory"}
        return func(*map(_cpu, args), **kwargs)


def _cpu(value: object) -> object:
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "cuda" else value


@contextmanager
def fake_cuda(patch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """Play CUDA on the CPU inside the block."""
    world = FakeCuda()

    @contextmanager
    def graph(made: _Graph, pool: object = None, stream: _Stream | None = None) -> Iterator[None]:
        stream = stream or _Stream(
            0, world
        )  # torch's own, of the device that was current when it was first used
        world.captures.append((stream, pool))
        made.shared = pool or object()
        tape = made.tape if stream.index == world.model_index else _Tape()
        with world.on(stream.index), tape:
            yield

    def capability(device: torch.device | None = None) -> tuple[int, int]:
        world.touch(None if device is None else _index(device))
        return world.capability

    def event() -> _Event:
        world.touch()
        return _Event(world)

    fakes: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "current_device": lambda: world.index,
        "set_device": lambda device: setattr(world, "index", _index(device)),
        "device": world.on,
        "get_device_capability": capability,
        "Stream": lambda device=None: _Stream(world.touch(None if device is None else _index(device)), world),
        "current_stream": world.current_stream,
        "stream": world.in_stream,
        "Event": event,
        "synchronize": lambda _=None: None,
        "empty_cache": lambda: None,
        "CUDAGraph": lambda: _Graph(world),
        "graph": graph,
    }
    for name, fake in fakes.items():
        patch.setattr(torch.cuda, name, fake)
    patch.setattr(torch.Tensor, "record_stream", lambda *_: None, raising=False)
    transform._constants.cache_clear()
    try:
        with _OnTheCpu(world):
            yield world
    finally:
        transform._constants.cache_clear()
