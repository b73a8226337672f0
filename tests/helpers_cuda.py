"""CUDA played by the CPU: two GPUs, streams, events and graphs, so that their use can be tested without one.

A graph is a tape of the operations that were captured; a replay does them again, into the same outputs. As on
real GPUs, a capture on a stream of another device than the model's holds nothing.
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

    def touch(self, index: int | None = None) -> int:
        self.touched.append(self.index if index is None else index)
        return self.touched[-1]

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


class _Stream:
    def __init__(self, index: int) -> None:
        self.index = index

    def wait_stream(self, other: _Stream) -> None:
        """Nothing: the CPU does one thing after the other."""

    def wait_event(self, event: object) -> None:
        """Nothing, for the same reason."""


class _Event:
    def record(self, stream: object = None) -> None:
        """Nothing: all work is done when it is given."""

    def query(self) -> bool:
        """Everything is done."""
        return True

    def synchronize(self) -> None:
        """Nothing, for the same reason."""


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
    def __init__(self) -> None:
        self.tape = _Tape()
        self.shared: object = None

    def replay(self) -> None:
        for func, args, kwargs, out in self.tape.calls:
            again = func(*args, **kwargs)
            if isinstance(out, torch.Tensor) and isinstance(again, torch.Tensor):
                out.copy_(again)

    def pool(self) -> object:
        return self.shared


class _OnTheCpu(TorchFunctionMode):
    """Tensors that are wanted on a GPU, or pinned, are made on the CPU."""

    def __torch_function__(
        self, func: _Operation, types: object, args: _Arguments = (), kwargs: dict[str, object] | None = None
    ) -> object:
        if isinstance(func, type):  # torch.device itself
            return func(*args, **(kwargs or {}))
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
        stream = stream or _Stream(0)  # torch's own, of the device that was current when it was first used
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
        return _Event()

    fakes: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "current_device": lambda: world.index,
        "set_device": lambda device: setattr(world, "index", _index(device)),
        "device": world.on,
        "get_device_capability": capability,
        "Stream": lambda device=None: _Stream(world.touch(None if device is None else _index(device))),
        "current_stream": lambda device=None: _Stream(world.index if device is None else _index(device)),
        "stream": lambda stream: world.on(stream.index),
        "Event": event,
        "synchronize": lambda _=None: None,
        "empty_cache": lambda: None,
        "CUDAGraph": _Graph,
        "graph": graph,
    }
    for name, fake in fakes.items():
        patch.setattr(torch.cuda, name, fake)
    patch.setattr(torch.Tensor, "record_stream", lambda *_: None, raising=False)
    transform._constants.cache_clear()
    try:
        with _OnTheCpu():
            yield world
    finally:
        transform._constants.cache_clear()
