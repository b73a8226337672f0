"""uint8 frames -> [slow, fast], on the device that the model is on.

Frames travel as uint8 (a quarter of float32's bytes) and become numbers here.
"""

from __future__ import annotations

import torch

from .sampling import uniform_indices
from .spec import ClipSpec


def pack(
    frames: torch.Tensor, spec: ClipSpec, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """Normalise a batch of clips and split it into SlowFast's two pathways.

    Args:
        frames: uint8 [B, T, H, W, 3], RGB, with T, H and W the ClipSpec's.
        spec: mean, standard deviation and alpha.
        device: where the result is wanted.
        dtype: the model's floating type.

    Returns:
        A fresh list ``[slow [B, 3, T // alpha, H, W], fast [B, 3, T, H, W]]``, contiguous. (pytorchvideo's
        SlowFast overwrites the list it is given, so one list serves one call.)

    Raises:
        ValueError: the frames have another shape or type.
    """
    expected = (spec.num_frames, spec.crop, spec.crop, 3)
    if frames.dtype != torch.uint8 or frames.dim() != 5 or tuple(frames.shape[1:]) != expected:
        raise ValueError(
            f"pack needs uint8 frames of shape [B, {', '.join(map(str, expected))}], "
            f"got {frames.dtype} {list(frames.shape)}"
        )
    moved = frames.to(device, non_blocking=True).permute(0, 4, 1, 2, 3)
    # Statistics are in float32 also for half precision: 255 levels fit, their scale should not be rounded.
    mean = torch.tensor(spec.mean, device=device).view(3, 1, 1, 1) * 255
    scale = 1 / (torch.tensor(spec.std, device=device).view(3, 1, 1, 1) * 255)
    fast = ((moved.to(torch.float32) - mean) * scale).to(dtype).contiguous()
    picked = torch.from_numpy(uniform_indices(spec.num_frames, spec.slow_frames)).to(device)
    return [fast.index_select(2, picked), fast]
