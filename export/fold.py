"""BatchNorm folded into the convolutions before it, in float32: half precision then rounds each weight once."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from actionrec.spec import ClipSpec
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(model: nn.Module, spec: ClipSpec) -> int:
    """Fold each BatchNorm3d that a Conv3d feeds into that Conv3d, in place. The scores stay the same.

    Args:
        model: in evaluation mode.
        spec: what it eats.

    Returns:
        The number of folded layers.
    """
    pairs = _pairs(model, spec)
    for convolution, norm in pairs:
        parent, _, name = convolution.rpartition(".")
        conv, batch_norm = model.get_submodule(convolution), model.get_submodule(norm)
        assert isinstance(conv, nn.Conv3d)
        assert isinstance(batch_norm, nn.BatchNorm3d)
        setattr(model.get_submodule(parent), name, fuse_conv_bn_eval(conv, batch_norm))
        parent, _, name = norm.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity())
    return len(pairs)


@torch.no_grad()
def _pairs(model: nn.Module, spec: ClipSpec) -> list[tuple[str, str]]:
    """Names of the convolutions and BatchNorms of which one is given what the other gives.

    Found by a call without numbers (torch's meta device): names and the order of layers differ from model to
    model. A layer that is called twice is left as it is.
    """
    outline = copy.deepcopy(model).to("meta")
    made: list[tuple[Tensor, str]] = []  # keeps the tensors, so that none is taken for another
    pairs: list[tuple[str, str]] = []
    calls: Counter[str] = Counter()

    def watch(name: str, module: nn.Module) -> None:
        def convolved(_: nn.Module, __: object, output: Tensor) -> None:
            calls[name] += 1
            made.append((output, name))

        def normalised(_: nn.Module, given: tuple[Tensor]) -> None:
            calls[name] += 1
            pairs.extend((source, name) for output, source in made if output is given[0])

        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(convolved)
        elif isinstance(module, nn.BatchNorm3d):
            module.register_forward_pre_hook(normalised)

    for name, module in outline.named_modules():
        watch(name, module)
    outline([torch.empty(1, 3, count, spec.crop, spec.crop, device="meta") for count in spec.pathways])
    return [(source, norm) for source, norm in pairs if calls[source] == calls[norm] == 1]
