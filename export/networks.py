"""Builders of pytorchvideo's networks, all called in the same way: a list of pathways goes in, logits come out.

Each takes a recipe and a number of classes and returns a model with fresh weights, in evaluation mode, whose
weights have the names that the published ones have.
"""

from __future__ import annotations

from typing import Any, cast

from actionrec.spec import ClipSpec
from torch import Tensor, nn

# Every network halves the picture five times before the head pools over 7x7 of what is left.
DOWNSAMPLING = 32
HEAD_POOL = 7


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


def _head_pool(spec: ClipSpec) -> int:
    """Edge of the window that a ResNet's head pools over: 7, as published, for crops of 193 and more."""
    return min(HEAD_POOL, -(-spec.crop // DOWNSAMPLING))


def slowfast(
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

    side = _head_pool(spec)
    model: nn.Module = create_slowfast(
        model_depth=depth,
        model_num_class=num_classes,
        slowfast_fusion_conv_kernel_size=(fusion_frames, 1, 1),
        head_pool_kernel_sizes=tuple((frames, side, side) for frames in spec.pathways),
        **({"stage_conv_a_kernel_sizes": conv_a_kernels} if conv_a_kernels else {}),
    )
    return use_plain_ints(model).eval()


class _OnePathway(nn.Module):
    """A pytorchvideo model that takes one tensor, called as all models here are: with a list of pathways.

    Its weights keep their names.

    Args:
        net: pytorchvideo's ``Net``: blocks, one after the other; is taken apart.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.blocks = net.blocks

    def forward(self, pathways: list[Tensor]) -> Tensor:
        """``[frames [B, 3, T, H, W]]`` -> logits [B, classes]."""
        (features,) = pathways
        for block in cast(nn.ModuleList, self.blocks):
            features = block(features)
        return features


def slow_r50(spec: ClipSpec, num_classes: int) -> nn.Module:
    """SlowFast's slow pathway alone, with the parameters of pytorchvideo's ``slow_r50``."""
    from pytorchvideo.models.resnet import create_resnet

    side = _head_pool(spec)
    model = create_resnet(
        model_depth=50,
        model_num_class=num_classes,
        stem_conv_kernel_size=(1, 7, 7),
        head_pool_kernel_size=(spec.num_frames, side, side),
    )
    return use_plain_ints(_OnePathway(model)).eval()


class MeanOfProbabilities(nn.Module):
    """Log-probabilities [B, C, T, H, W] -> the logarithm of the places' mean probability, [B, C, 1, 1, 1].

    No small one becomes zero on the way.
    """

    def forward(self, logarithms: Tensor) -> Tensor:
        """Average [B, C, T, H, W] over the last three."""
        places = (2, 3, 4)
        top = logarithms.amax(places, keepdim=True)
        return top + (logarithms - top).exp().mean(places, keepdim=True).log()


def x3d(spec: ClipSpec, num_classes: int, *, trained_crop: int) -> nn.Module:
    """One of pytorchvideo's X3Ds.

    Where pytorchvideo gives probabilities, this gives their logarithms, which softmax turns back into them:
    X3D averages probabilities over places, so no other logits have its scores.

    Args:
        spec: sizes of the input.
        num_classes: outputs.
        trained_crop: pixels of the training's crop, whose last map the head pools over.
    """
    from pytorchvideo.models.x3d import create_x3d

    model = create_x3d(
        input_clip_length=spec.num_frames,
        input_crop_size=min(trained_crop, spec.crop),
        model_num_class=num_classes,
        inner_act=nn.SiLU,  # what pytorchvideo's Swish computes, and exporters know it
    )
    head = model.blocks[-1]
    head.activation, head.output_pool = nn.LogSoftmax(dim=1), MeanOfProbabilities()
    return use_plain_ints(_OnePathway(model)).eval()
