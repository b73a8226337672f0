"""The floor of a network's time: each layer takes the longer of its arithmetic and its memory traffic.

Layers are the convolutions and the linear layer, each of which reads its inputs and weights once and writes its
outputs once. What a compiler can fuse with them (BatchNorm, activations, additions) counts nothing, so no
program is as fast as this.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from actionrec.spec import ClipSpec
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """What a layer costs."""

    flop: float
    """Of one clip; a multiplication and its addition are two."""
    elements: float
    """Read and written for one clip."""
    weights: float
    """Elements read for any number of clips."""


@torch.no_grad()
def layers(net: nn.Module, spec: ClipSpec) -> list[Layer]:
    """Each convolution and linear layer of a network; only shapes are computed."""
    shapes = copy.deepcopy(net).to("meta")
    found: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv3d | nn.Linear)
        weight = module.weight
        # For each output: a product with each weight of its channel.
        flop = 2.0 * output.numel() * math.prod(weight.shape[1:])
        found.append(Layer(flop, inputs[0].numel() + output.numel(), weight.numel()))

    for module in shapes.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(note)
    side = spec.crop
    shapes([torch.empty(1, 3, frames, side, side, device="meta") for frames in spec.pathways])
    return found


def seconds(of: list[Layer], batch: int, flop_a_second: float, bytes_a_second: float, size: int) -> float:
    """The floor of a batch's time.

    Args:
        of: the layers.
        batch: clips.
        flop_a_second: of the device, in this precision.
        bytes_a_second: of its memory.
        size: bytes of an element.
    """
    return sum(
        max(
            layer.flop * batch / flop_a_second,
            (layer.elements * batch + layer.weights) * size / bytes_a_second,
        )
        for layer in of
    )
