"""Decoded frames -> the model's pathways, on the device that the model is on.

Frames travel as int16 (half of float32's bytes) and become numbers here.
"""

from __future__ import annotations

from functools import cache

import torch

from ..sampling import uniform_indices
from ..spec import STEPS_PER_LEVEL, ClipSpec

LAYOUT = torch.channels_last_3d
"""How pathways lie in memory: as frames do, which convolutions of CPUs and tensor cores read as it is."""

_LEVEL_BITS = STEPS_PER_LEVEL.bit_length() - 1


def pack(
    frames: torch.Tensor, spec: ClipSpec, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """Normalise a batch of clips and give each of the model's pathways its frames.

    Args:
        frames: int16 [B, T, H, W, 3], RGB, in steps of 1/128 level (`STEPS_PER_LEVEL`), with T, H and W the
            ClipSpec's.
        spec: mean, standard deviation and pathways.
        device: where the result is wanted.
        dtype: the model's floating type; uint8: whole levels, not normalised, which int8 models read.

    Returns:
        A fresh list with a tensor [B, 3, t, H, W] for each t of `ClipSpec.pathways`, in `LAYOUT`: of a
        SlowFast ``[slow, fast]``. (pytorchvideo's SlowFast overwrites the list it is given, so one list
        serves one call.)

    Raises:
        ValueError: the frames have another shape or type.
    """
    expected = (spec.num_frames, spec.crop, spec.crop, 3)
    if frames.dtype != torch.int16 or frames.dim() != 5 or tuple(frames.shape[1:]) != expected:
        raise ValueError(
            f"pack needs int16 frames of shape [B, {', '.join(map(str, expected))}], "
            f"got {frames.dtype} {list(frames.shape)}"
        )
    mean, scale, picked = _constants(spec, torch.device(device))
    if dtype == torch.uint8:
        everything = ((frames.to(device) + STEPS_PER_LEVEL // 2) >> _LEVEL_BITS).to(torch.uint8)
    else:
        everything = _normalised(frames.to(device, non_blocking=True), mean, scale, dtype)
    pathways = [everything if index is None else everything.index_select(1, index) for index in picked]
    return [pathway.permute(0, 4, 1, 2, 3).contiguous(memory_format=LAYOUT) for pathway in pathways]


def _normalised(
    frames: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    # Colours of a row side by side: one long row is several times faster than many of three.
    rows = frames.flatten(-2)
    # In float32 also for half precision, which would round pixels as well as their scale.
    return rows.to(torch.float32).sub_(mean).mul_(scale).to(dtype).view(frames.shape)


@cache
def _constants(
    spec: ClipSpec, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor | None]]:
    """Mean and scale of a row, float32 [W * 3] each, and each pathway's frames, int64 (None: all)."""
    white = 255 * STEPS_PER_LEVEL
    mean = torch.tensor(spec.mean, device=device).repeat(spec.crop) * white
    scale = 1 / (torch.tensor(spec.std, device=device).repeat(spec.crop) * white)
    picked = [
        None
        if count == spec.num_frames
        else torch.from_numpy(uniform_indices(spec.num_frames, count)).to(device)
        for count in spec.pathways
    ]
    return mean, scale, picked
