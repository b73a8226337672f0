"""Promise: what is exported for a GPU is of its device and type throughout, as tensors without numbers tell."""

from __future__ import annotations

import copy

import pytest
import torch
from actionrec.model import transform
from actionrec.model.runtime import DTYPES
from actionrec.model.transform import LAYOUT
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from export import artifacts, zoo
from export.fold import fold
from export.rewrite import rewrite
from export.split import split
from motion.evaluate import load
from motion.model import MOTION_SPEC, WEIGHTS


def on_fake_cuda(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same layers with weights that have a device, a type and a shape, and no numbers."""
    for module in net.modules():
        for name, weight in [*module.named_parameters(recurse=False)]:
            fake = torch.empty(weight.shape, device="cuda", dtype=dtype)
            if fake.dim() == 5:  # as `artifacts.prepared` lays them out
                fake = fake.to(memory_format=LAYOUT)
            setattr(module, name, nn.Parameter(fake, requires_grad=False))
        for name, buffer in [*module.named_buffers(recurse=False)]:
            kind = dtype if buffer.is_floating_point() else buffer.dtype
            setattr(module, name, torch.empty(buffer.shape, device="cuda", dtype=kind))
    return net


@pytest.mark.parametrize("precision", [each for each in DTYPES if each != artifacts.INT8])
def test_program_for_a_gpu(precision: str) -> None:
    """The model is exported for a GPU in its type, with no tensor elsewhere, for batches of 1 to the most."""
    target = artifacts.Target(artifacts.AOTI, precision, "cuda")
    trunk, _ = split(load(WEIGHTS), MOTION_SPEC)
    net = copy.deepcopy(trunk)
    rewrite(net, "cuda")
    fold(net, MOTION_SPEC)
    transform._constants.cache_clear()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            program, batch = artifacts._program(on_fake_cuda(net, target.dtype), MOTION_SPEC, target)
    finally:
        transform._constants.cache_clear()
    assert batch is None
    ((lower, upper),) = [(each.lower, each.upper) for each in program.range_constraints.values()]
    assert (lower, upper) == (1, artifacts.MOST_BATCH)
    values = [
        node.meta["val"] for node in program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)
    ]
    assert {value.device.type for value in values} == {"cuda"}
    assert {value.dtype for value in values if value.is_floating_point()} == {target.dtype}


@pytest.mark.parametrize("name", ["motion", "slow_r50", "slowfast_r50"])
def test_layout_is_carried_through(name: str) -> None:
    """Every layer's output lies in memory as frames do: on tensor cores each change of layout is a copy."""
    model = zoo.get(name)
    trunk, _ = split(model.build(model.spec, len(model.labels())), model.spec)
    rewrite(trunk, "cuda")
    layouts: list[bool] = []

    def look(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.dim() == 5:
            # One place or one channel lies in both ways at once.
            layouts.append(output.is_contiguous(memory_format=LAYOUT))

    for module in trunk.modules():
        module.register_forward_hook(look)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        shapes = [(2, 3, count, model.spec.crop, model.spec.crop) for count in model.spec.pathways]
        given = [torch.empty(shape, device="cuda", dtype=torch.float16) for shape in shapes]
        maps = on_fake_cuda(trunk, torch.float16)([each.contiguous(memory_format=LAYOUT) for each in given])
    assert len(layouts) > 20
    assert all(layouts)
    assert all(one.is_contiguous(memory_format=LAYOUT) for one in maps)
