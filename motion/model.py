"""The small SlowFast `motion`: two pathways, one block a stage, 128x128 pixels."""

from __future__ import annotations

from pathlib import Path

from actionrec.spec import ClipSpec
from torch import nn

from motion.scene import LABELS

MOTION_SPEC = ClipSpec(short_side=128, crop=128)
"""Everything but the size is the recipe of the published models."""

WEIGHTS = Path(__file__).with_name("motion.pth")
"""Its weights, which are in git."""

_STEM_CHANNELS = 16
_STEM_STRIDE = 4
_STAGE_STRIDES = (2, 2, 2, 1)
_FAST_TEMPORAL_STRIDE = 2
REDUCTION = 32
"""Pixels of a frame's edge for one cell of the last stage; frame sizes are multiples of it."""


def build_motion(side: int = MOTION_SPEC.crop) -> nn.Module:
    """A SlowFast with fresh weights.

    The label depends on motion alone, so the fast pathway is as wide as the slow one. Its stem halves the
    frame rate (with kernels that see five frames), which halves its cost.

    Args:
        side: edge of the square frames, in pixels, a multiple of `REDUCTION`. The weights fit every size:
            only the head's pooling windows differ.

    Returns:
        A module that is called with a fresh list [slow, fast], float32 [B, 3, 8, side, side] and
        [B, 3, 32, side, side], and returns logits, float32 [B, 8] in the order of `LABELS`.
    """
    from pytorchvideo.models.slowfast import create_slowfast

    if side % REDUCTION:
        raise ValueError(f"side must be a multiple of {REDUCTION}, got {side}")
    cells = side // REDUCTION
    slow_frames, fast_frames = MOTION_SPEC.pathways
    fast_frames //= _FAST_TEMPORAL_STRIDE
    stem_stride = (_STEM_STRIDE, _STEM_STRIDE)
    model: nn.Module = create_slowfast(
        model_depth=18,
        model_num_class=len(LABELS),
        dropout_rate=0.2,
        slowfast_channel_reduction_ratio=(1,),
        slowfast_conv_channel_fusion_ratio=1,
        slowfast_fusion_conv_kernel_size=(5, 1, 1),
        slowfast_fusion_conv_stride=(fast_frames // slow_frames, 1, 1),
        stem_dim_outs=(_STEM_CHANNELS, _STEM_CHANNELS),
        stem_conv_kernel_sizes=((1, 7, 7), (5, 7, 7)),
        stem_conv_strides=((1, *stem_stride), (_FAST_TEMPORAL_STRIDE, *stem_stride)),
        stem_pool=(None, None),
        stage_spatial_strides=(_STAGE_STRIDES, _STAGE_STRIDES),
        head_pool_kernel_sizes=((slow_frames, cells, cells), (fast_frames, cells, cells)),
    )
    return model
