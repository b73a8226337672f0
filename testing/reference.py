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

from pytorchvideo.data.clip_sampling import ConstantClipsPerVideoSampler  # noqa: E402
from pytorchvideo.data.encoded_video_pyav import EncodedVideoPyAV  # noqa: E402
from pytorchvideo.transforms import ShortSideScale, UniformTemporalSubsample  # noqa: E402
from pytorchvideo.transforms.functional import (  # noqa: E402
    short_side_scale,
    uniform_crop,
    uniform_temporal_subsample,
)
from torchvision.transforms._transforms_video import CenterCropVideo, NormalizeVideo  # noqa: E402


def reference_pathways(video: bytes, spec: ClipSpec, start_seconds: float = 0.0) -> list[torch.Tensor]:
    """The pathways of the window that starts at `start_seconds`, float32 [3, t, H, W] each."""
    clip = EncodedVideoPyAV(io.BytesIO(video)).get_clip(start_seconds, start_seconds + spec.window_seconds)
    frames = cast(torch.Tensor, UniformTemporalSubsample(spec.num_frames)(clip["video"]))
    frames = NormalizeVideo(spec.mean, spec.std)(frames / 255.0)
    frames = CenterCropVideo(spec.crop)(ShortSideScale(size=spec.short_side)(frames))
    return packed(frames, spec)


def packed(frames: torch.Tensor, spec: ClipSpec) -> list[torch.Tensor]:
    """Float32 [3, T, H, W] -> the pathways, as ``PackPathway`` of SlowFast's model card makes them."""
    return [uniform_temporal_subsample(frames, count, 1) for count in spec.pathways]


def scaled_crop(frame: torch.Tensor, spec: ClipSpec, index: int) -> torch.Tensor:
    """Crop 0, 1 or 2 of a frame: float32 [3, H, W] of any size -> [3, crop, crop]."""
    scaled = short_side_scale(frame[:, None], spec.short_side)
    return cast(torch.Tensor, uniform_crop(scaled, spec.crop, index)[:, 0])


def published_views(video: bytes, spec: ClipSpec, views: int, crops: int) -> list[list[torch.Tensor]]:
    """The clips of the published evaluation, each with pathways as `reference_pathways` gives them.

    As PySlowFast and pytorchvideo test: `views` clips by ``ConstantClipsPerVideoSampler``, each cropped `crops`
    times by ``uniform_crop``.
    """
    file = EncodedVideoPyAV(io.BytesIO(video), decode_audio=False)
    sampler = ConstantClipsPerVideoSampler(spec.window_seconds, views, crops)
    found: list[list[torch.Tensor]] = []
    scaled = torch.empty(0)
    for _ in range(views * crops):
        start, end, _, crop, _ = sampler(0.0, file.duration, {})
        if crop == 0:  # the other crops are of the same frames
            frames = UniformTemporalSubsample(spec.num_frames)(file.get_clip(start, end)["video"])
            scaled = short_side_scale(NormalizeVideo(spec.mean, spec.std)(frames / 255.0), spec.short_side)
        found.append(packed(uniform_crop(scaled, spec.crop, crop), spec))
    return found
