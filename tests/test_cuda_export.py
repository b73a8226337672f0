"""Promise: what is exported for a GPU is of its device and type throughout, as tensors without numbers tell."""

from __future__ import annotations

import copy

import pytest
import torch
from actionrec.model import transform
from actionrec.model.runtime import DTYPES
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from export import artifacts
from export.fold import fold
from export.rewrite import rewrite
from motion.evaluate import load
from motion.model import MOTION_SPEC, WEIGHTS


def on_fake_cuda(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same layers with weights that have a device, a type and a shape, and no numbers."""
    for module in net.modules():
        for name, weight in [*module.named_parameters(recurse=False)]:
            fake = torch.empty(weight.shape, device="cuda", dtype=dtype)
            setattr(module, name, nn.Parameter(fake, requires_grad=False))
        for name, buffer in [*module.named_buffers(recurse=False)]:
            kind = dtype if buffer.is_floating_point() else buffer.dtype
            setattr(module, name, torch.empty(buffer.shape, device="cuda", dtype=kind))
    return net


@pytest.mark.parametrize("precision", [*DTYPES])
def test_program_for_a_gpu(precision: str) -> None:
    """The model is exported for a GPU in its type, with no tensor elsewhere, for batches of 1 to the most."""
    net = copy.deepcopy(load(WEIGHTS))
    rewrite(net, "cuda")
    fold(net, MOTION_SPEC)
    target = artifacts.Target(artifacts.AOTI, precision, "cuda")
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
