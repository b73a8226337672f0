"""Random weights that behave like trained ones: activations of unit scale, and scores that tell clips apart.

A freshly initialised network of the zoo gives every clip nearly the same 1/400 for every label, and most of its
layers count for nothing (pytorchvideo starts the last BatchNorm of each residual branch at zero). A parity
check or a benchmark on such a model can hardly fail. So BatchNorm gets random gains and the statistics of a
few clips, and the last layer is turned and scaled until those clips get different labels.

The clips are generated scenes and, as many again, moving noise: footage has texture everywhere, and a network
calibrated on plain scenes alone gives all footage one label.
"""

from __future__ import annotations

import torch
from actionrec.model.transform import pack
from torch import Tensor, nn

from .zoo import ZooModel

CLIPS = 8
"""Enough for the statistics, and still quick."""
BATCH = 4
BRANCH_END = "norm_c"
"""Name of the last BatchNorm of a residual branch."""
BRANCH_GAINS = (0.15, 0.35)
"""Of those. Branches as strong as what they are added to make the network chaotic: a rounding error
grows from block to block until it changes labels."""
LOGIT_STD = 2.5
"""Spread of a clip's logits: with 400 classes the best one then gets about a third of the score."""
FLOOR = 0.3
"""Directions in which the clips differ less than this (of the widest one) count as this wide."""


def randomise(model: nn.Module, seed: int) -> None:
    """Fresh weights, the same ones for the same seed; `calibrate` must follow.

    Args:
        model: changed in place.
        seed: of all weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm3d):
            low, high = BRANCH_GAINS if name.endswith(BRANCH_END) else (0.5, 1.0)
            nn.init.uniform_(module.weight, low, high, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.1, generator=generator)
        if isinstance(module, nn.Conv3d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def calibrate(model: nn.Module, zoo_model: ZooModel, clips: Tensor) -> None:
    """Fit BatchNorm's statistics and the last layer to clips.

    Args:
        model: in evaluation mode, on the CPU; changed in place.
        zoo_model: what it is: recipe and head.
        clips: int16 [N, T, H, W, 3], RGB; N at least 2.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    for batch in torch.split(clips, BATCH):
        model(pack(batch, zoo_model.spec))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()

    head = model.get_submodule(zoo_model.head)
    features: list[Tensor] = []
    hook = head.register_forward_hook(lambda _, inputs, __: features.append(inputs[0].flatten(1, -2).mean(1)))
    for batch in torch.split(clips, BATCH):
        model(pack(batch, zoo_model.spec))
    hook.remove()
    if isinstance(head, nn.Linear):
        _spread(head, torch.cat(features))


def _spread(head: nn.Linear, features: Tensor) -> None:
    """Turn a linear layer so that what tells clips apart decides the scores, and not what they share.

    The features are whitened: the one thing in which clips differ most (brightness) would decide alone.

    Args:
        head: [classes, F]; changed in place.
        features: float [N, F], what the layer is given for N clips.
    """
    centred = features - features.mean(dim=0)
    _, widths, directions = torch.linalg.svd(centred, full_matrices=False)  # [min(N, F)], [min(N, F), F]
    floor = FLOOR * widths[0]
    gains = 1 / widths.clamp_min(floor) - 1 / floor
    weight = head.weight / floor + (head.weight @ directions.T * gains) @ directions
    weight *= LOGIT_STD / (centred @ weight.T).std(dim=1).mean()
    head.weight.copy_(weight)
    head.bias.copy_(-weight @ features.mean(dim=0))
