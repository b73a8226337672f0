"""A plan of TensorRT's: a network that NVIDIA's library has compiled for one kind of GPU.

    pathways -> made contiguous -> the execution context of their batch size -> maps
                                   all contexts share one block of scratch memory: one runs at a time

`export.tensorrt` builds plans with torch-tensorrt. TensorRT alone runs them: the other would import torch's
compiler into each worker, and has one context for all batch sizes, so that one size's graph would find what
another's has left. **This has not run on a GPU yet**; `tests/test_tensorrt.py` plays TensorRT.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

INPUT, OUTPUT = "pathway", "map"
"""Names of a plan's tensors, each with its number from 0 behind it."""

_TYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}
"""torch's types by TensorRT's names."""


def version() -> str | None:
    """Version of the TensorRT that this process can use; None: none."""
    try:
        import tensorrt
    # Without its libraries, its Python raises whatever comes first.
    except Exception:
        return None
    return str(tensorrt.__version__)


class _Context(Protocol):
    """What is called of TensorRT's IExecutionContext."""

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def set_device_memory(self, address: int, size: int) -> None: ...
    def set_tensor_address(self, name: str, address: int) -> bool: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def execute_async_v3(self, stream: int) -> bool: ...


class Plan:
    """A network on a GPU that takes some batch sizes: a `loaders.Trunk`.

    Args:
        path: what `export.tensorrt` has built.
        device: a GPU, the current one.

    Raises:
        ImportError: there is no TensorRT.
        RuntimeError: the plan is for another GPU or TensorRT, or damaged.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        import tensorrt

        self._device = device
        self._strategy = tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED
        # Its messages go to standard error, which is the worker's log.
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        plan = self._plan = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if plan is None:
            raise RuntimeError(f"TensorRT {tensorrt.__version__} cannot load {path.name}; the log says why")
        names = sorted(plan.get_tensor_name(number) for number in range(plan.num_io_tensors))
        self._inputs = [name for name in names if name.startswith(INPUT)]
        self._outputs = [name for name in names if name.startswith(OUTPUT)]
        self._types = {name: _TYPES[plan.get_tensor_dtype(name).name] for name in names}
        # An optimisation profile is for one batch size: its least, best and largest shapes are the same.
        profiles = range(plan.num_optimization_profiles)
        self._profiles = {plan.get_tensor_profile_shape(self._inputs[0], n)[1][0]: n for n in profiles}
        self._scratch = torch.empty(plan.device_memory_size_v2, dtype=torch.uint8, device=device)
        self._contexts: dict[int, _Context] = {}

    def __call__(self, pathways: Sequence[Tensor]) -> list[Tensor]:
        """Pathways [B, 3, t, H, W] -> maps [B, C, t, h, w], both of the plan's type, on the current stream.

        Raises:
            RuntimeError: the plan is not for batches of B, or TensorRT fails.
            TypeError: the pathways are of another type than the plan's.
        """
        given = [pathway.contiguous() for pathway in pathways]
        context = self._context(given)
        maps = [
            torch.empty(tuple(context.get_tensor_shape(name)), dtype=self._types[name], device=self._device)
            for name in self._outputs
        ]
        for name, tensor in zip((*self._inputs, *self._outputs), (*given, *maps), strict=True):
            if tensor.dtype != self._types[name]:
                raise TypeError(f"{name} must be {self._types[name]}, got {tensor.dtype}")
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(self._stream()):
            raise RuntimeError("TensorRT could not run its plan; the log says why")
        return maps

    def _context(self, pathways: Sequence[Tensor]) -> _Context:
        """The execution context of a batch size. Its shapes are set once: what TensorRT prepares for them is
        ready when a graph is captured, since warming up comes first.
        """
        batch = len(pathways[0])
        if batch in self._contexts:
            return self._contexts[batch]
        if batch not in self._profiles:
            raise RuntimeError(f"The plan is for batches of {sorted(self._profiles)}, got one of {batch}")
        made: _Context | None = self._plan.create_execution_context(self._strategy)
        shapes = {name: tuple(each.shape) for name, each in zip(self._inputs, pathways, strict=True)}
        if (
            made is None
            or not made.set_optimization_profile_async(self._profiles[batch], self._stream())
            or not all(made.set_input_shape(name, shape) for name, shape in shapes.items())
        ):
            raise RuntimeError(f"TensorRT refuses pathways of {shapes}; the log says why")
        made.set_device_memory(self._scratch.data_ptr(), len(self._scratch))
        self._contexts[batch] = made
        return made

    def _stream(self) -> int:
        return int(torch.cuda.current_stream(self._device).cuda_stream)
