"""Layers as compiled artifacts have them: the same function in steps that run faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from pytorchvideo.models.stem import ResNetBasicStem

FEW_CHANNELS = 8
"""Outputs of a convolution that loads a number for every multiplication: they fill one register of AVX2."""

_Sizes = tuple[int, int, int]


def rewrite(model: nn.Module, device: str) -> None:
    """Replace layers in place, in a model that is in evaluation mode.

    Args:
        model: one of `export.zoo`'s.
        device: what it will run on, ``cpu`` or ``cuda``.
    """
    # Imported here, as in `networks`: torch warns of what pytorchvideo does, and `cli` keeps that from users.
    from pytorchvideo.models.stem import ResNetBasicStem

    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AvgPool3d):
                setattr(module, name, TimeFirstPool(child))
            elif device == "cpu" and isinstance(child, ResNetBasicStem) and _can_be_paired(child):
                setattr(module, name, PairedFrames(child))


class TimeFirstPool(nn.Module):
    """An average over all frames and a window, [B, C, T, H, W] -> [B, C, 1, H', W'], as two steps.

    Frames are averaged by generated code, which leaves the pool few pixels, and a pool in two dimensions: torch
    has none in three for bf16 on a CPU.

    Args:
        pool: over all frames.
    """

    def __init__(self, pool: nn.AvgPool3d) -> None:
        super().__init__()
        self._frames, height, width = cast(_Sizes, pool.kernel_size)
        stride = pool.stride if isinstance(pool.stride, int) else pool.stride[1:]
        self._pool = nn.AvgPool2d((height, width), cast(tuple[int, int], stride))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pool features, [B, C, T, H, W]."""
        if features.shape[2] != self._frames:
            raise ValueError(f"The head pools over {self._frames} frames and was given {features.shape[2]}")
        pooled: torch.Tensor = self._pool(features.mean(2)).unsqueeze(2)
        return pooled


class PairedFrames(nn.Module):
    """A stem with few channels that convolves two frames at once, [B, 3, T, H, W] -> [B, C, T, H', W'], T even.

    Their channels lie side by side, so that each number that is loaded meets twice as many weights:

        frame 2t        w0 w1 w2 w3 w4  0
        frame 2t + 1     0 w0 w1 w2 w3 w4

    Args:
        stem: convolution, BatchNorm, activation and a pool within frames; is taken apart.
    """

    def __init__(self, stem: ResNetBasicStem) -> None:
        super().__init__()
        conv, norm = stem.conv, stem.norm
        frames, height, width = conv.kernel_size
        stem.conv = nn.Conv3d(
            conv.in_channels,
            2 * conv.out_channels,
            (frames + 1, height, width),
            stride=(2, *conv.stride[1:]),
            padding=conv.padding,
            bias=False,
        )
        before, after = ((0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 1, 0))
        weights = [functional.pad(conv.weight, zeros) for zeros in (before, after)]
        stem.conv.weight = nn.Parameter(torch.cat(weights))
        stem.norm = nn.BatchNorm3d(2 * norm.num_features, norm.eps)
        stem.norm.load_state_dict(
            {key: value.repeat(2) if value.dim() else value for key, value in norm.state_dict().items()}
        )
        self._stem = stem.eval()

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features of frames, [B, 3, T, H, W]."""
        pairs: torch.Tensor = self._stem(frames)
        batch, channels, time, height, width = pairs.shape
        apart = pairs.view(batch, 2, channels // 2, time, height, width).permute(0, 2, 3, 1, 4, 5)
        return apart.reshape(batch, channels // 2, 2 * time, height, width)


def _can_be_paired(stem: ResNetBasicStem) -> bool:
    conv, pool = stem.conv, stem.pool
    return (
        isinstance(conv, nn.Conv3d)  # X3D's is two, one after the other
        and conv.out_channels <= FEW_CHANNELS
        and conv.bias is None
        and conv.stride[0] == 1
        and conv.padding[0] == conv.kernel_size[0] // 2
        and isinstance(stem.norm, nn.BatchNorm3d)
        and (pool is None or (pool.kernel_size[0], pool.stride[0], pool.padding[0]) == (1, 1, 0))
    )
