"""The models that can be built by name: builder, input recipe, labels and where the weights are.

The three SlowFasts are pytorchvideo's, with the parameters that its hub entries have
(pytorchvideo/models/hub/slowfast.py); `motion` is this project's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from actionrec.spec import ClipSpec
from torch import nn

from motion.model import MOTION_SPEC, WEIGHTS, build_motion
from motion.scene import LABELS

from .errors import ExportError

ZOO_URL = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"
ZOO_URL_VARIABLE = "PYTORCHVIDEO_ZOO_URL"
"""Environment variable that names a mirror of `ZOO_URL`, for networks that cannot reach it."""

HEAD = "blocks.6.proj"
"""Name of the last linear layer in every SlowFast that pytorchvideo builds, `motion` included."""

# The network halves the picture five times before the head pools over 7x7 of what is left.
DOWNSAMPLING = 32
HEAD_POOL = 7

# pytorchvideo's slowfast_16x8_r101_50_50: only the first six blocks of stage 4 convolve over time.
_STAGE_4_OF_101_50_50 = ((3, 1, 1),) * 6 + ((1, 1, 1),) * 17
_KERNELS_101_50_50 = (
    ((1, 1, 1), (1, 1, 1), _STAGE_4_OF_101_50_50, (3, 1, 1)),
    ((3, 1, 1), (3, 1, 1), _STAGE_4_OF_101_50_50, (3, 1, 1)),
)


@dataclass(frozen=True)
class ZooModel:
    """A model that can be built by name."""

    name: str
    spec: ClipSpec
    build: Callable[[ClipSpec, int], nn.Module]
    """(recipe, number of classes) -> model with fresh weights, in evaluation mode; it maps
    ``[slow, fast]``, float [B, 3, T, H, W] each, to logits, float [B, classes]."""
    labels: Callable[[], tuple[str, ...]]
    """Names of the classes of the model's own weights, in their order."""
    published_file: str = ""
    """File name of the published weights under `zoo_url`; empty where there are none."""
    bundled_file: Path | None = None
    """Weights that come with this repository."""

    @property
    def weights_url(self) -> str | None:
        """Where the published weights are, or None."""
        return zoo_url() + self.published_file if self.published_file else None

    def with_crop(self, crop_pixels: int) -> ZooModel:
        """The same model for another input size, with the same field of view.

        The short side becomes the crop, which is what PySlowFast's ``TEST_CROP_SIZE`` does: 224 sees
        the square that 256 sees, with fewer pixels.

        Raises:
            ExportError: not a size that the network can take.
        """
        if crop_pixels < DOWNSAMPLING:
            raise ExportError(
                f"CROP={crop_pixels} is too small: the network halves the picture five times",
                f"Give {DOWNSAMPLING} or more; the published figures are for 256, and 224 is usual too.",
            )
        return replace(self, spec=replace(self.spec, crop=crop_pixels, short_side=crop_pixels))


def zoo_url() -> str:
    """Folder of the published weights, with a slash at its end: `ZOO_URL` or a mirror of it."""
    return (os.environ.get(ZOO_URL_VARIABLE) or ZOO_URL).rstrip("/") + "/"


def kinetics_labels() -> tuple[str, ...]:
    """The 400 labels of Kinetics-400 in the order of the published weights."""
    from torchvision.models.video import R3D_18_Weights

    return tuple(R3D_18_Weights.DEFAULT.meta["categories"])


def use_plain_ints(model: nn.Module) -> nn.Module:
    """Turn the sizes of convolutions and pools into Python ints, in place.

    pytorchvideo computes some strides with numpy, and torch.compile breaks its graph at each numpy
    integer.
    """
    for module in model.modules():
        for name in ("stride", "padding", "dilation", "kernel_size"):
            value = getattr(module, name, None)
            if isinstance(value, list | tuple):
                setattr(module, name, tuple(int(size) for size in value))
    return model


def _slowfast(
    spec: ClipSpec,
    num_classes: int,
    *,
    depth: int,
    fusion_frames: int,
    conv_a_kernels: tuple[Any, ...] | None = None,
) -> nn.Module:
    """One of pytorchvideo's SlowFasts, with a head for the recipe's frames and pixels.

    Args:
        spec: sizes of the input.
        num_classes: outputs.
        depth: layers of the ResNet, 50 or 101.
        fusion_frames: temporal kernel of the convolutions from the fast to the slow pathway.
        conv_a_kernels: first kernels of the blocks by pathway and stage; the builder's own if None.
    """
    from pytorchvideo.models.slowfast import create_slowfast

    side = min(HEAD_POOL, -(-spec.crop // DOWNSAMPLING))  # 7, as published, for crops of 193 and more
    model: nn.Module = create_slowfast(
        model_depth=depth,
        model_num_class=num_classes,
        slowfast_fusion_conv_kernel_size=(fusion_frames, 1, 1),
        head_pool_kernel_sizes=((spec.slow_frames, side, side), (spec.num_frames, side, side)),
        **({"stage_conv_a_kernel_sizes": conv_a_kernels} if conv_a_kernels else {}),
    )
    return use_plain_ints(model).eval()


_SLOWFASTS = (
    ZooModel(
        name="slowfast_r50",
        spec=ClipSpec(),
        build=partial(_slowfast, depth=50, fusion_frames=7),
        labels=kinetics_labels,
        published_file="SLOWFAST_8x8_R50.pyth",
    ),
    ZooModel(
        name="slowfast_r101",
        spec=ClipSpec(),
        build=partial(_slowfast, depth=101, fusion_frames=5),
        labels=kinetics_labels,
        published_file="SLOWFAST_8x8_R101.pyth",
    ),
    ZooModel(
        name="slowfast_16x8_r101_50_50",
        # 16x8 counts the slow pathway's frames; PySlowFast's SLOWFAST_16x8_R101_50_50.yaml has 64 and 2.
        spec=ClipSpec(num_frames=64, sampling_rate=2),
        build=partial(_slowfast, depth=101, fusion_frames=5, conv_a_kernels=_KERNELS_101_50_50),
        labels=kinetics_labels,
        published_file="SLOWFAST_16x8_R101_50_50.pyth",
    ),
)

_MOTION = "motion"
NAMES = (*(model.name for model in _SLOWFASTS), _MOTION)


def get(name: str) -> ZooModel:
    """The model of that name.

    Raises:
        ExportError: there is none.
    """
    for model in _SLOWFASTS:
        if model.name == name:
            return model
    if name == _MOTION:
        return _motion()
    raise ExportError(f"MODEL={name} is not known", f"There are auto, {', '.join(NAMES)}.")


def _motion() -> ZooModel:
    """The bundled model."""

    def build(spec: ClipSpec, num_classes: int) -> nn.Module:
        if num_classes != len(LABELS):
            raise ExportError(
                f"motion tells {len(LABELS)} classes apart, not {num_classes}",
                "Leave LABELS out, or name one of the SlowFasts: MODEL=slowfast_r50.",
            )
        try:
            return use_plain_ints(build_motion(spec.crop)).eval()
        except ValueError as error:
            raise ExportError(f"CROP={spec.crop} does not fit motion: {error}") from error

    return ZooModel(
        name=_MOTION,
        spec=MOTION_SPEC,
        build=build,
        labels=lambda: LABELS,
        bundled_file=WEIGHTS,
    )
