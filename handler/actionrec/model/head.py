"""`actionrec.head` with torch: a batch of feature maps -> logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..head import Head


class TorchHead(nn.Module):
    """Pools and the linear layer, in float32 whatever the maps' type.

    `export` puts it behind the network in ``model.pt``.

    Args:
        head: weights and pools.
    """

    weight: Tensor
    bias: Tensor
    pools: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        pools = head.pools() if head.averages_probabilities else head.place_weights()[None]
        self._windows = len(pools)
        self.register_buffer("weight", torch.from_numpy(head.weight.copy()))
        self.register_buffer("bias", torch.from_numpy(head.bias.copy()))
        self.register_buffer("pools", torch.from_numpy(pools.reshape(len(pools), -1).T.copy()))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [B, C, t, h, w], one a pathway -> logits float32 [B, classes]."""
        means = torch.cat([one.mean(2, dtype=torch.float32).flatten(2) for one in maps], 1)
        pooled = torch.matmul(means, self.pools).transpose(1, 2)  # [B, windows, features]
        logits = nn.functional.linear(pooled, self.weight, self.bias)
        if self._windows == 1:
            return logits[:, 0]
        # The mean of probabilities, whose logarithms are logits; so no small one becomes zero on the way.
        mean: Tensor = torch.logsumexp(torch.log_softmax(logits, 2), 1) - math.log(self._windows)
        return mean
