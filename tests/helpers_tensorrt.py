"""TensorRT and torch-tensorrt played by the CPU: a plan is JSON, and it computes mean colours."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib.machinery import ModuleSpec
from math import prod
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

VERSION = "11.1.0.106"

DataType = Enum("DataType", "FLOAT HALF BF16 INT32")
_NAMES = {torch.float32: "FLOAT", torch.float16: "HALF", torch.bfloat16: "BF16"}
_NUMPY = {"FLOAT": "f4", "HALF": "f2"}


def plan_of(pathways: Sequence[Sequence[int]], batches: Sequence[int], kind: str = "FLOAT") -> bytes:
    """A plan for pathways of these shapes, [3, t, H, W] each; its maps are their means, [B, 3, 1, 1, 1]."""
    return json.dumps({"pathways": pathways, "batches": batches, "type": kind, "version": VERSION}).encode()


@dataclass
class FakeTensorRT:
    """What was done with TensorRT."""

    contexts: list[Context] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)
    """The arguments of the last build."""
    fails: bool = False
    """Whether plans fail when they are run."""


class Context:
    """An IExecutionContext."""

    def __init__(self, plan: Mapping[str, Any], world: FakeTensorRT) -> None:
        self.plan = plan
        self.world = world
        self.profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.scratch: tuple[int, int] = (0, 0)
        self.addresses: dict[str, int] = {}
        self.streams: list[int] = []

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.streams.append(stream)
        self.profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        batch = self.plan["batches"][self.profile]
        return list(shape) == [batch, *self.plan["pathways"][int(name[-1])]]

    def set_device_memory(self, address: int, size: int) -> None:
        self.scratch = address, size

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.plan["batches"][self.profile], 3, 1, 1, 1) if name.startswith("map") else self.shapes[name]

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.append(stream)
        if self.world.fails:
            return False
        for number in range(len(self.plan["pathways"])):
            pathway = self._array(f"pathway{number}").astype(np.float32)
            self._array(f"map{number}")[:] = pathway.mean((2, 3, 4), keepdims=True)
        return True

    def _array(self, name: str) -> np.ndarray:
        """The memory that was given for a tensor, as it lies there."""
        shape = self.get_tensor_shape(name)
        kind = np.dtype(_NUMPY[self.plan["type"]])
        memory = (ctypes.c_char * (prod(shape) * kind.itemsize)).from_address(self.addresses[name])
        return np.ndarray(shape, kind, memoryview(memory))


class Plan:
    """An ICudaEngine."""

    device_memory_size_v2 = 512

    def __init__(self, plan: Mapping[str, Any], world: FakeTensorRT) -> None:
        self.plan = plan
        self.world = world
        # In no order: a plan's tensors are found by their names.
        numbers = range(len(plan["pathways"]))
        self.names = [f"{kind}{number}" for number in reversed(numbers) for kind in ("map", "pathway")]
        self.num_io_tensors = len(self.names)
        self.num_optimization_profiles = len(plan["batches"])

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_dtype(self, _: str) -> DataType:
        return DataType[self.plan["type"]]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(self.plan["batches"][profile], *self.plan["pathways"][int(name[-1])])] * 3

    def create_execution_context(self, strategy: str) -> Context:
        assert strategy == "user managed"
        self.world.contexts.append(Context(self.plan, self.world))
        return self.world.contexts[-1]


class Input:
    """A torch_tensorrt.Input."""

    def __init__(self, profiles: Sequence[Mapping[str, tuple[int, ...]]], dtype: torch.dtype) -> None:
        self.profiles = profiles
        self.dtype = dtype


def fake_tensorrt(patch: pytest.MonkeyPatch) -> FakeTensorRT:
    """Have both packages be there, until the patch is undone."""
    world = FakeTensorRT()
    tensorrt, torch_tensorrt = ModuleType("tensorrt"), ModuleType("torch_tensorrt")

    def deserialize(data: bytes) -> Plan | None:
        try:
            plan = json.loads(data)
        except ValueError:
            return None
        return Plan(plan, world)

    def convert(program: object, arg_inputs: tuple[list[Input]], **options: object) -> bytes:
        world.asked = {"program": program, "inputs": arg_inputs[0], **options}
        (inputs,) = arg_inputs
        batches = [profile["opt_shape"][0] for profile in inputs[0].profiles]
        shapes = [each.profiles[0]["opt_shape"][1:] for each in inputs]
        return plan_of(shapes, batches, _NAMES[inputs[0].dtype])

    for name, value in {
        "__version__": VERSION,
        "ExecutionContextAllocationStrategy": SimpleNamespace(USER_MANAGED="user managed"),
        "Logger": type("Logger", (), {"ERROR": 1, "__init__": lambda *_: None}),
        "Runtime": lambda _: SimpleNamespace(deserialize_cuda_engine=deserialize),
    }.items():
        setattr(tensorrt, name, value)
    torch_tensorrt.Input = Input  # type: ignore[attr-defined]
    torch_tensorrt.dynamo = SimpleNamespace(  # type: ignore[attr-defined]
        convert_exported_program_to_serialized_trt_engine=convert
    )
    for module in (tensorrt, torch_tensorrt):
        module.__spec__ = ModuleSpec(module.__name__, None)
        patch.setitem(sys.modules, module.__name__, module)
    return world
