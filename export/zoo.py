"""The models that can be built by name: builder, input recipe, labels, head and where the weights are.

A new model is one more `ZooModel` here, and a builder in `networks` where it is of another family; nothing else
in the project knows one from another. All but `motion`, which is this project's own, are pytorchvideo's, and
each number has its source there:

- builder and weights: ``pytorchvideo/models/hub/`` (``slowfast.py``, ``resnet.py``, ``x3d.py``);
- recipe: the model's page at https://pytorch.org/hub/facebookresearch_pytorchvideo_slowfast (``_resnet``,
  ``_x3d``): frames, sampling rate, side and crop, mean 0.45, standard deviation 0.225, 30 frames a second.

Accuracy and cost of each are in ``benchmarks/models.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from actionrec.spec import ClipSpec
from torch import nn

from motion.model import MOTION_SPEC, WEIGHTS, build_motion
from motion.scene import LABELS

from . import networks
from .errors import ExportError

ZOO_URL = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"
ZOO_URL_VARIABLE = "PYTORCHVIDEO_ZOO_URL"
"""Environment variable that names a mirror of `ZOO_URL`, for networks that cannot reach it."""

SLOWFAST_HEAD = "blocks.6.proj"
"""Name of the last linear layer of pytorchvideo's SlowFasts, `motion` included."""
ONE_PATHWAY_HEAD = "blocks.5.proj"
"""The same of its models with one pathway: no block packs pathways there."""

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
    """(recipe, number of classes) -> model with fresh weights, in evaluation mode; it maps a list of the
    recipe's pathways, float [B, 3, t, H, W] each, to logits, float [B, classes]."""
    head: str
    """Name of the last linear layer [classes, features]: what says how many classes weights tell apart."""
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
        if crop_pixels < networks.DOWNSAMPLING:
            raise ExportError(
                f"CROP={crop_pixels} is too small: the network halves the picture five times",
                f"Give {networks.DOWNSAMPLING} or more; {self.name} is made for {self.spec.crop}.",
            )
        return replace(self, spec=replace(self.spec, crop=crop_pixels, short_side=crop_pixels))


def zoo_url() -> str:
    """Folder of the published weights, with a slash at its end: `ZOO_URL` or a mirror of it."""
    return (os.environ.get(ZOO_URL_VARIABLE) or ZOO_URL).rstrip("/") + "/"


def kinetics_labels() -> tuple[str, ...]:
    """The 400 labels of Kinetics-400 in the order of the published weights."""
    from torchvision.models.video import R3D_18_Weights

    return tuple(R3D_18_Weights.DEFAULT.meta["categories"])


_published = partial(ZooModel, labels=kinetics_labels)

_PUBLISHED = (
    _published(
        name="slowfast_r50",
        spec=ClipSpec(pathways=(8, 32), sampling_rate=2, short_side=256, crop=256),
        build=partial(networks.slowfast, depth=50, fusion_frames=7),
        head=SLOWFAST_HEAD,
        published_file="SLOWFAST_8x8_R50.pyth",
    ),
    _published(
        name="slowfast_r101",
        spec=ClipSpec(pathways=(8, 32), sampling_rate=2, short_side=256, crop=256),
        build=partial(networks.slowfast, depth=101, fusion_frames=5),
        head=SLOWFAST_HEAD,
        published_file="SLOWFAST_8x8_R101.pyth",
    ),
    _published(
        name="slowfast_16x8_r101_50_50",
        # 16x8 counts the slow pathway's frames; PySlowFast's SLOWFAST_16x8_R101_50_50.yaml has 64 and 2.
        spec=ClipSpec(pathways=(16, 64), sampling_rate=2, short_side=256, crop=256),
        build=partial(networks.slowfast, depth=101, fusion_frames=5, conv_a_kernels=_KERNELS_101_50_50),
        head=SLOWFAST_HEAD,
        published_file="SLOWFAST_16x8_R101_50_50.pyth",
    ),
    _published(
        name="slow_r50",
        spec=ClipSpec(pathways=(8,), sampling_rate=8, short_side=256, crop=256),
        build=networks.slow_r50,
        head=ONE_PATHWAY_HEAD,
        published_file="SLOW_8x8_R50.pyth",
    ),
    _published(
        name="x3d_s",
        spec=ClipSpec(pathways=(13,), sampling_rate=6, short_side=182, crop=182),
        build=partial(networks.x3d, trained_crop=160),
        head=ONE_PATHWAY_HEAD,
        published_file="X3D_S.pyth",
    ),
    _published(
        name="x3d_m",
        spec=ClipSpec(pathways=(16,), sampling_rate=5, short_side=256, crop=256),
        build=partial(networks.x3d, trained_crop=224),
        head=ONE_PATHWAY_HEAD,
        published_file="X3D_M.pyth",
    ),
)

_MOTION = "motion"
NAMES = (*(model.name for model in _PUBLISHED), _MOTION)


def get(name: str) -> ZooModel:
    """The model of that name.

    Raises:
        ExportError: there is none.
    """
    for model in _PUBLISHED:
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
                "Leave LABELS out, or name one of the published models: MODEL=slowfast_r50.",
            )
        try:
            return networks.use_plain_ints(build_motion(spec.crop)).eval()
        except ValueError as error:
            raise ExportError(f"CROP={spec.crop} does not fit motion: {error}") from error

    return ZooModel(
        name=_MOTION,
        spec=MOTION_SPEC,
        build=build,
        head=SLOWFAST_HEAD,
        labels=lambda: LABELS,
        bundled_file=WEIGHTS,
    )
