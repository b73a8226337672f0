"""The base archive's network, with a new head for the new labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from actionrec.manifest import Manifest
from actionrec.model.head import TorchHead
from actionrec.model.transform import pack
from actionrec.spec import ClipSpec
from numpy.typing import NDArray
from torch import Tensor, nn

from ... import artifacts, weights, zoo
from ...errors import ArchiveError, ExportError
from ...split import split
from ..fit import Layer

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Network:
    """A network of `export.zoo` as it is fine-tuned."""

    name: str
    spec: ClipSpec
    classes: int

    def build(self, state: State | None = None) -> nn.Module:
        """The network, in evaluation mode, on the CPU.

        Args:
            state: all of its weights; None: fresh ones.
        """
        model = zoo.get(self.name)
        net = model.build(self.spec, len(model.labels()))
        head: Any = cast(nn.ModuleList, net.blocks)[-1]
        head.proj = nn.Linear(head.proj.in_features, self.classes)
        # A mean of logits in all networks (X3D averages probabilities): so they start from the linear head that
        # METHOD=head fits, and explanations add up.
        head.activation, head.output_pool = None, nn.AdaptiveAvgPool3d(1)
        if state is not None:
            net.load_state_dict(state)
        return net.eval()

    def head(self, net: nn.Module) -> nn.Linear:
        """The last layer of a network that was built here."""
        return cast(nn.Linear, net.get_submodule(zoo.get(self.name).head))


def check(manifest: Manifest) -> None:
    """Refuse an archive whose network cannot learn.

    Raises:
        ExportError: its network is not known, or it has no weights that can be learned from.
    """
    _portable(manifest)
    if manifest.network not in zoo.NAMES:
        raise ExportError(
            f"{manifest.name} does not say which network it has"
            if not manifest.network
            else f"{manifest.name} has the network {manifest.network}, which is not known here",
            f"Build it again with this version. There are {', '.join(zoo.NAMES)}.",
        )


def load(manifest: Manifest, directory: Path, classes: int) -> tuple[Network, nn.Module]:
    """The network of an unpacked archive, with its weights and a fresh head.

    Raises:
        ExportError: it has no weights that can be learned from, or they are not its network's.
    """
    check(manifest)
    network = Network(manifest.network, manifest.spec, classes)
    net = network.build()
    path = directory / _portable(manifest)
    try:
        kept = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        state = kept.trunk.state_dict()
    except (RuntimeError, AttributeError) as error:
        raise ArchiveError(
            f"the {path.name} of {manifest.name} has no trunk that can be read", "Build it with this version."
        ) from error
    trunk, _ = split(net, network.spec)  # whose layers are the network's
    weights.load_into(trunk, state, path)
    return network, net


def _portable(manifest: Manifest) -> str:
    """The file with an archive's weights as they were trained."""
    for artifact in manifest.artifacts:
        if (artifact.runtime, artifact.precision, artifact.device) == (artifacts.PORTABLE, "fp32", "cpu"):
            return artifact.file
    there = ", ".join(f"{one.runtime} in {one.precision} for {one.device}" for one in manifest.artifacts)
    raise ExportError(
        f"{manifest.name} cannot be fine-tuned: its weights are compiled or rounded ({there})",
        "Name the model in place of the archive (MODEL=slowfast_r50), or build the archive again with "
        "DEVICE=cpu and FALLBACK=1.",
    )


@torch.no_grad()
def put_layer(head: nn.Linear, layer: Layer) -> None:
    """Give a last layer the weights of a fitted one."""
    head.weight.copy_(torch.from_numpy(layer.weight))
    head.bias.copy_(torch.from_numpy(layer.bias))


def embedder(net: nn.Module, spec: ClipSpec) -> nn.Module:
    """Pathways -> embeddings float32 [B, features]; shares the network's layers."""
    trunk, head = split(net, spec)
    count = head.features
    pools = replace(head, weight=np.eye(count, dtype=np.float32), bias=np.zeros(count, np.float32))
    return artifacts.WithHead(trunk, TorchHead(pools)).eval()


@torch.inference_mode()
def outputs(
    net: nn.Module, spec: ClipSpec, frames: Iterator[NDArray[np.int16]], device: torch.device
) -> Iterator[Tensor]:
    """What a network in evaluation mode gives for each window, int16 [T, H, W, 3]; on the CPU."""
    for one in frames:
        yield net(pack(torch.from_numpy(np.array(one))[None], spec, device))[0].float().cpu()


def stages(net: nn.Module) -> list[nn.Module]:
    """The stages of a network from the stem on, without its head."""
    blocks = list(cast(nn.ModuleList, net.blocks))[:-1]
    return [block for block in blocks if any(True for _ in block.parameters())]


def digest(state: State) -> str:
    """``sha256:<hex>`` of weights: of names, types, shapes and numbers."""
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        array = value.detach().cpu().contiguous()
        found.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        found.update(array.numpy().tobytes())
    return f"sha256:{found.hexdigest()}"
