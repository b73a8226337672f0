"""AdamW's groups of parameters, and the learning rate of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

LEAST = 1 / 200
"""The rate does not fall below this share of its peak."""
RATE_SHARE = "rate_share"
"""Key of a group of parameters: its learning rate, as a share of the step's."""


def groups(parameters: Iterable[nn.Parameter], decay: float, rate_share: float = 1.0) -> list[dict[str, Any]]:
    """Parameters as an optimiser takes them: weights decay; biases and BatchNorm's gains do not.

    Args:
        parameters: those that do not need a gradient are left out.
        decay: weight decay.
        rate_share: learning rate, as a share of the step's.
    """
    learned = [one for one in parameters if one.requires_grad]
    split: Mapping[float, list[nn.Parameter]] = {
        decay: [one for one in learned if one.ndim > 1],
        0.0: [one for one in learned if one.ndim <= 1],
    }
    return [
        {"params": some, "weight_decay": weight_decay, RATE_SHARE: rate_share}
        for weight_decay, some in split.items()
        if some
    ]


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of a step."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group[RATE_SHARE]


def cosine(step: int, steps: int, warm_up: int) -> float:
    """The learning rate of a step as a share of its peak: a linear warm-up, times half a cosine.

    Args:
        step: from 0.
        steps: after which it has fallen to nothing; below `LEAST` it does not fall.
        warm_up: steps until it is at its peak.
    """
    warm = min(1.0, (step + 1) / max(1, warm_up))
    return max(warm * 0.5 * (1 + math.cos(math.pi * step / steps)), LEAST)
