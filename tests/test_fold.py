"""Promise: a model in half precision is rounded once: BatchNorm is folded in float32, before the cast."""

from __future__ import annotations

import copy

import pytest
import torch
from actionrec.model.transform import pack
from torch import nn

from export import artifacts, calibrate, parity, zoo
from export.fold import fold
from export.samples import calibration_clips, sample_clips

CROP = 64


@pytest.mark.parametrize(
    ("name", "crop"), [("motion", None), ("slowfast_r50", CROP), ("slow_r50", CROP), ("x3d_s", CROP)]
)
@torch.no_grad()
def test_folding_changes_no_score(name: str, crop: int | None) -> None:
    """Every BatchNorm of every model is folded, and the scores stay the same."""
    torch.manual_seed(0)
    model = zoo.get(name).with_crop(crop) if crop else zoo.get(name)
    net = model.build(model.spec, len(model.labels())).eval()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm3d)]
    for norm in norms:
        for numbers in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert numbers is not None
            numbers.uniform_(0.5, 1.5)
    pathways = [torch.randn(1, 3, count, *[model.spec.crop] * 2) for count in model.spec.pathways]
    before = net(list(pathways))
    assert fold(net, model.spec) == len(norms) > 0
    assert not any(isinstance(module, nn.BatchNorm3d) for module in net.modules())
    after = net(list(pathways))
    assert torch.allclose(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


def in_half_precision(net: nn.Module) -> nn.Module:
    """A float16 model that computes as a GPU does: each layer's sum in float32, then rounded."""
    net = net.float()

    def rounded(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        return output.half().float()

    for module in net.modules():
        if isinstance(module, (nn.Conv3d, nn.ReLU, nn.Linear)):
            module.register_forward_hook(rounded)
    return net


@pytest.mark.long
@torch.inference_mode()
def test_scores_are_nearer_to_float32() -> None:
    """Folded in float32 and then cast, float16 gives scores nearer to float32's than the other way round."""
    model = zoo.get("motion")
    net = model.build(model.spec, len(model.labels()))
    calibrate.randomise(net, 0)
    calibrate.calibrate(net, model, calibration_clips(model.spec, 8, 0))
    clips = sample_clips(model.spec, 16, 30)
    target = artifacts.Target(artifacts.PORTABLE, "fp16", "cpu")
    folded_first = in_half_precision(artifacts.prepared(net, model.spec, target))
    cast_first = copy.deepcopy(net).half()
    fold(cast_first, model.spec)
    expected = net(pack(clips, model.spec)).log_softmax(1)
    first, last = (
        float((each(pack(clips, model.spec)).log_softmax(1) - expected).abs().mean())
        for each in (folded_first, in_half_precision(cast_first))
    )
    assert first < 0.9 * last, (first, last)


def test_gate_of_half_precision_has_more_clips() -> None:
    """Rounding shows on some clips and not on others, so the gate of those precisions sees many."""
    counts = {precision: parity.clips_of(precision) for precision in parity.TOLERANCES}
    assert counts == {"fp32": 4, "tf32": 16, "fp16": 16, "bf16": 16, "int8": 32}
