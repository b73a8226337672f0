"""Promise: an export that does not give the eager model's scores is refused, and no other is."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from actionrec.manifest import Manifest
from actionrec.model.runtime import Runtime
from actionrec.model.transform import pack
from torch import nn

from export import artifacts, cli, parity, zoo
from export.errors import ParityError
from export.samples import sample_clips
from motion.scene import LABELS
from tests.fixtures_export import TARGET

pytest_plugins = ("tests.fixtures_export",)
pytestmark = pytest.mark.server


def exported(net: nn.Module, directory: Path) -> Runtime:
    """The exported model as the server runs it."""
    spec = zoo.get("motion").spec
    artifact = artifacts.export(net, spec, TARGET, directory)
    manifest = Manifest(
        name="m", version="1", spec=spec, weights="random", artifacts=(artifact,), labels=LABELS,
    )  # fmt: skip
    return Runtime(directory, manifest)


@pytest.mark.parametrize(
    "layer", ["blocks.0.multipathway_blocks.1.conv", "blocks.3.multipathway_blocks.0", zoo.SLOWFAST_HEAD]
)
def test_parity_gate_stops_a_perturbed_export(
    motion_net: nn.Module, clips: torch.Tensor, tmp_path: Path, layer: str
) -> None:
    """A weight that is off by a tenth, at the front, in the middle or at the end, fails the build."""
    state = {key: value.clone() for key, value in motion_net.state_dict().items()}
    spoiled = zoo.get("motion").build(zoo.get("motion").spec, len(LABELS))
    key = next(key for key in state if key.startswith(layer) and key.endswith("weight"))
    state[key] *= 1.1
    spoiled.load_state_dict(state)
    with pytest.raises(ParityError, match="is not the eager one: scores differ by up to"):
        parity.check(motion_net, exported(spoiled, tmp_path), "fp32", clips)


def test_parity_gate_stops_undefined_scores(motion_net: nn.Module, clips: torch.Tensor, tmp_path: Path) -> None:
    """NaN, which compares as smaller than nothing, does not slip through."""
    spoiled = zoo.get("motion").build(zoo.get("motion").spec, len(LABELS))
    with torch.no_grad():
        spoiled.get_submodule(zoo.SLOWFAST_HEAD).bias.fill_(float("nan"))  # type: ignore[operator]
    with pytest.raises(ParityError):
        parity.check(motion_net, exported(spoiled, tmp_path), "fp32", clips)


def constant(net: nn.Module, *logits: float) -> nn.Module:
    """A model of eight classes that gives every clip the same logits, the last ones 0."""
    net = copy.deepcopy(net)
    linear = net.get_submodule(zoo.get("motion").head)
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([*logits, *(0.0,) * (8 - len(logits))]))
    return net.eval()


def test_parity_gate_sees_through_confident_scores(motion_net: nn.Module, tmp_path: Path) -> None:
    """Where one label has all of the score, a difference in the others still fails the build."""
    clips = sample_clips(zoo.get("motion").spec, 2, 1)
    runtime = exported(constant(motion_net, 20.0, 0.5), tmp_path)
    assert parity.check(constant(motion_net, 20.0, 0.5), runtime, "fp32", clips)["top1_agreement"] == 1.0
    with pytest.raises(ParityError, match=r"scores differ by up to .*e-09 .* and a factor of 1\.65"):
        parity.check(constant(motion_net, 20.0), runtime, "fp32", clips)


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_convolutions_know_whether_they_may_use_tf32(
    precision: str, motion_net: nn.Module, tmp_path: Path
) -> None:
    """TF32, which torch uses for convolutions by itself, is in an artifact of that name and in no other."""
    artifacts.export(motion_net, zoo.get("motion").spec, replace(TARGET, precision=precision), tmp_path)
    loaded = torch.jit.load(str(tmp_path / "model.pt"))  # type: ignore[no-untyped-call]
    graph = loaded.inlined_graph  # kept: its nodes end with it
    convolutions = graph.findAllNodes("aten::_convolution", recurse=True)
    assert convolutions
    allowed = {[*node.inputs()][-1].toIValue() for node in convolutions}
    assert allowed == {precision == "tf32"}
    assert torch.backends.cudnn.allow_tf32


class RoundedConvolution(nn.Module):
    """A convolution whose factors have 11 bits each, as a GPU's tensor cores take them in TF32."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        with torch.no_grad():
            conv.weight.copy_(to_tf32(conv.weight))  # type: ignore[operator,arg-type]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [B, C, T, H, W]."""
        convolved: torch.Tensor = self.conv(to_tf32(features))
        return convolved


def to_tf32(numbers: torch.Tensor) -> torch.Tensor:
    """Float32, rounded to TF32's 11 bits by Dekker's splitting."""
    split = numbers * (2**13 + 1)
    return split - (split - numbers)


def test_parity_gate_knows_tf32(motion_net: nn.Module, clips: torch.Tensor, tmp_path: Path) -> None:
    """A GPU's TF32 passes as tf32, and not as fp32."""
    rounded = copy.deepcopy(motion_net)
    for module in [*rounded.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, nn.Conv3d):
                setattr(module, name, RoundedConvolution(child))
    runtime = exported(rounded, tmp_path)
    assert parity.check(motion_net, runtime, "tf32", clips)["top1_agreement"] == 1.0
    with pytest.raises(ParityError):
        parity.check(motion_net, runtime, "fp32", clips)


def test_failed_parity_writes_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the tolerance the build ends with exit code 1 and an empty store."""
    monkeypatch.setattr(parity, "TOLERANCES", {"fp32": replace(parity.TOLERANCES["fp32"], score=-1.0)})
    assert cli.main(["--model", "motion", "--weights", "random", "--store", str(tmp_path)]) == 1
    assert list(tmp_path.glob("*.mar*")) == []


def test_model_is_left_as_it_was(motion_net: nn.Module, clips: torch.Tensor, tmp_path: Path) -> None:
    """Exporting changes neither the eager model's weights nor its scores."""
    spec = zoo.get("motion").spec
    with torch.inference_mode():
        before = motion_net(pack(clips[:1], spec))
        artifacts.export(motion_net, spec, TARGET, tmp_path)
        assert torch.equal(before, motion_net(pack(clips[:1], spec)))
