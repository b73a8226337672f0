"""The published pipeline: pytorchvideo's EncodedVideo and transforms, as its model card uses them."""

from __future__ import annotations

import io
import sys
from typing import cast

import torch
import torchvision.transforms.functional
from actionrec.spec import ClipSpec

# pytorchvideo 0.1.5 imports a module that torchvision 0.17 renamed.
sys.modules["torchvision.transforms.functional_tensor"] = torchvision.transforms.functional

from pytorchvideo.data.encoded_video_pyav import EncodedVideoPyAV  # noqa: E402
from pytorchvideo.transforms import ShortSideScale, UniformTemporalSubsample  # noqa: E402
from torchvision.transforms._transforms_video import CenterCropVideo, NormalizeVideo  # noqa: E402


def reference_pathways(video: bytes, spec: ClipSpec, start_seconds: float = 0.0) -> list[torch.Tensor]:
    """[slow [3, T/alpha, H, W], fast [3, T, H, W]] float32 of the window that starts at `start_seconds`."""
    clip = EncodedVideoPyAV(io.BytesIO(video)).get_clip(start_seconds, start_seconds + spec.window_seconds)
    fast = cast(torch.Tensor, UniformTemporalSubsample(spec.num_frames)(clip["video"]))
    fast = NormalizeVideo(spec.mean, spec.std)(fast / 255.0)
    fast = CenterCropVideo(spec.crop)(ShortSideScale(size=spec.short_side)(fast))
    slow = fast.index_select(1, torch.linspace(0, fast.shape[1] - 1, fast.shape[1] // spec.alpha).long())
    return [slow, fast]
