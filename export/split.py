"""A network in two: the trunk, which ends with the last feature maps, and the head, which is linear."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from actionrec.head import Head
from actionrec.spec import ClipSpec
from torch import Tensor, nn

from .errors import ExportError
from .networks import MeanOfProbabilities

_Sizes = npt.NDArray[np.int64]

if TYPE_CHECKING:
    from pytorchvideo.models.head import ResNetBasicHead


class Trunk(nn.Module):
    """The blocks of a network before its head: a list of pathways -> a tuple of feature maps.

    The layers are the network's own, and keep their names.

    Args:
        blocks: all that come before the head.
        last: what the head does before its linear layer and is no average (X3D), if anything.
        pathways: how many there are; a network of one calls its blocks with a tensor.
    """

    def __init__(self, blocks: list[nn.Module], last: nn.Module | None, pathways: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.last = last
        self._pathways = pathways

    def forward(self, pathways: list[Tensor]) -> tuple[Tensor, ...]:
        """Float [B, 3, t, H, W] each -> feature maps, float [B, C, t, h, w] each."""
        features = list(pathways) if self._pathways > 1 else pathways[0]
        for block in self.blocks:
            features = block(features)
        if self.last is not None:
            features = self.last(features)
        return tuple(features) if self._pathways > 1 else (cast(Tensor, features),)


@torch.no_grad()
def split(model: nn.Module, spec: ClipSpec) -> tuple[Trunk, Head]:
    """Split one of pytorchvideo's networks.

    Args:
        model: in evaluation mode; the trunk shares its layers.
        spec: what it eats.

    Raises:
        ExportError: after the last feature maps it does something else than to pool, and to apply one linear
            layer.
    """
    from pytorchvideo.models.head import ResNetBasicHead
    from pytorchvideo.models.slowfast import PoolConcatPathway
    from pytorchvideo.models.x3d import ProjectedPool

    blocks = list(cast(nn.ModuleList, model.blocks))
    head = blocks.pop()
    if not isinstance(head, ResNetBasicHead) or not isinstance(head.proj, nn.Linear):
        raise _unknown(f"it ends with {type(head).__name__}")
    last: nn.Module | None = None
    if isinstance(blocks[-1], PoolConcatPathway):
        pools = list(cast(nn.ModuleList, blocks.pop().pool))
    elif isinstance(head.pool, ProjectedPool):
        last, pools = head.pool, []
    else:
        pools = [head.pool]
    trunk = Trunk(blocks, last, len(spec.pathways)).eval()
    maps = _map_sizes(trunk, spec)
    averages = _averages_probabilities(head)
    window = _window(pools, maps) if pools else np.ones(2, np.int64)
    weight, bias = head.proj.weight.float().cpu().numpy(), head.proj.bias.float().cpu().numpy()
    return trunk, Head(weight.copy(), bias.copy(), maps, window, averages)


def _map_sizes(trunk: Trunk, spec: ClipSpec) -> _Sizes:
    """Channels, times, height and width of each pathway's map, found by a call without numbers."""
    outline = copy.deepcopy(trunk).to("meta")
    given = [torch.empty(1, 3, count, spec.crop, spec.crop, device="meta") for count in spec.pathways]
    return np.array([one.shape[1:] for one in outline(given)], np.int64)


def _window(pools: list[nn.Module], maps: _Sizes) -> _Sizes:
    """Height and width of the window that all pathways' pools average over, all times at once."""
    windows = set()
    for pool, (_, times, height, width) in zip(pools, maps.tolist(), strict=True):
        if not isinstance(pool, nn.AvgPool3d) or any(_three(pool.padding)):
            raise _unknown(f"it pools with {pool}")
        (frames, down, across), (_, *strides) = _three(pool.kernel_size), _three(pool.stride)
        one_window = (down, across) == (height, width)
        if frames != times or not (one_window or strides == [1, 1]):
            raise _unknown(f"it pools maps of {[times, height, width]} with {pool}")
        windows.add((down, across))
    if len(windows) != 1:
        raise _unknown(f"its pathways have windows of {sorted(windows)}")
    return np.array(windows.pop(), np.int64)


def _averages_probabilities(head: ResNetBasicHead) -> bool:
    """Whether the head averages probabilities over windows; otherwise it averages logits."""
    if isinstance(head.output_pool, MeanOfProbabilities) and isinstance(head.activation, nn.LogSoftmax):
        return True
    if isinstance(head.output_pool, nn.AdaptiveAvgPool3d) and head.activation is None:
        return False
    raise _unknown(f"its head averages {head.activation} with {head.output_pool}")


def _three(size: int | tuple[int, ...]) -> list[int]:
    return [size] * 3 if isinstance(size, int) else list(size)


def _unknown(what: str) -> ExportError:
    return ExportError(
        f"this network cannot be split into feature maps and a linear head: {what}",
        "Use one of the models of export/zoo.py, or teach export/split.py this one.",
    )
