"""Convolutions between bytes: by oneDNN, whose kernels for three dimensions torch has, or in floating point.

A tensor of bytes q stands for the numbers (q - zero) * scale, with a scale for each channel. All scales are
folded into weights and biases, so they cost nothing:

    y / s_out = sum of (w * s_in / s_out) (q - zero) + b / s_out

A byte cannot be below 0: with zero 0 that is the ReLU. What is to be added is not rounded: oneDNN gives numbers
too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from actionrec.model.int8 import added, convolved
from torch import Tensor, nn
from torch.nn import functional

from .steps import Convolution

_onednn = torch.ops.onednn

FEW_CHANNELS = 8
"""Outputs of a convolution that computes two frames at once; see `export.rewrite.PairedFrames`."""
LARGEST_WEIGHT = 127
_AS_ONE = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""So many bytes as one number, which is moved faster than they are one by one."""


@dataclass(frozen=True)
class Scale:
    """What the bytes of a tensor stand for."""

    step: Tensor
    """float64 [C]: from one byte to the next."""
    zero: int
    """The byte that stands for 0."""

    @classmethod
    def of_positive(cls, high: Tensor) -> Scale:
        """For numbers from 0 to `high`, float64 [C]."""
        return cls(_not_too_small(high) / 255, 0)

    @classmethod
    def of_signed(cls, most: Tensor) -> Scale:
        """For numbers whose size is at most `most`, float64 [C]."""
        return cls(_not_too_small(most) / 127, 128)

    def shaped(self) -> Tensor:
        """The step as float32 [1, C, 1, 1, 1]."""
        return self.step.float().view(1, -1, 1, 1, 1)


def to_bytes(values: Tensor) -> Tensor:
    """Numbers in steps of their scale, zero added -> bytes."""
    return values.round().clamp(0, 255).to(torch.uint8)


def _not_too_small(sizes: Tensor) -> Tensor:
    """A channel that is nearly always zero must not get a scale that makes noise of it."""
    return sizes.clamp_min(max(float(sizes.max()) * 1e-3, 1e-6))


class ByteConvolution(nn.Module):
    """A convolution of bytes, which gives bytes or numbers.

    Args:
        step: the convolution in floating point.
        given: what its input's bytes stand for.
        gives: what its output's bytes are to stand for, or the type of the numbers that it is to give.
        offset: number that is added to all inputs that are no padding (`Levels`).
    """

    weight: Tensor
    weight_steps: Tensor
    weight_zeros: Tensor
    bias: Tensor

    def __init__(
        self, step: Convolution, given: Scale, gives: Scale | torch.dtype, offset: float = 0.0
    ) -> None:
        super().__init__()
        self.unit = gives.step if isinstance(gives, Scale) else torch.ones(len(step.bias), dtype=torch.float64)
        """float64 [out]: what its results, biases and weights are counted in."""
        exact = self.exact_weight(step, given)
        self._stride, self._padding = step.stride, step.padding
        self._given_zero = given.zero
        self._gives = (gives.zero, torch.uint8) if isinstance(gives, Scale) else (0, gives)
        self._paired = (
            len(exact) <= FEW_CHANNELS and step.stride[0] == 1 and step.padding[0] == step.weight.shape[2] // 2
        )
        steps = weight_steps(exact)
        self.register_buffer("weight_steps", self._twice(steps).float())
        self.register_buffer("weight_zeros", torch.zeros(len(self.weight_steps), dtype=torch.int64))
        self.register_buffer("bias", torch.zeros(len(self.weight_steps)))
        self.register_buffer("weight", torch.empty(0, dtype=torch.int8))
        self.put(exact / steps.view(-1, 1, 1, 1, 1))
        self.add(step.bias.double() / self.unit + offset * exact.sum((1, 2, 3, 4)))

    def exact_weight(self, step: Convolution, given: Scale) -> Tensor:
        """The weights before they are rounded, float64 [out, in, t, h, w]."""
        return step.weight.double() * given.step.view(1, -1, 1, 1, 1) / self.unit.view(-1, 1, 1, 1, 1)

    def put(self, weight: Tensor) -> None:
        """Set the weights: [out, in, t, h, w], in steps of `weight_steps`; they are rounded."""
        rounded = weight.round().to(torch.int8)
        if self._paired:
            # Frame 2t needs the weights followed by a zero, frame 2t + 1 a zero followed by the weights.
            rounded = torch.cat([functional.pad(rounded, (0, 0, 0, 0, *ends)) for ends in ((0, 1), (1, 0))])
        self.weight = rounded

    def add(self, difference: Tensor) -> None:
        """Add to the biases: [out], in `unit`."""
        self.bias = self.bias + self._twice(difference).float()

    def unrounded(self, values: Tensor) -> Tensor:
        """uint8 [B, C, t, h, w] -> float32, in `unit`: the sums that `forward` makes bytes of."""
        weight = self.weight.float() * self.weight_steps.view(-1, 1, 1, 1, 1)
        stride = (2, *self._stride[1:]) if self._paired else self._stride
        shifted = values.float() - self._given_zero
        result = functional.conv3d(shifted, weight, self.bias, stride, self._padding)
        return _unpaired(result) if self._paired else result

    def forward(self, values: Tensor) -> Tensor:
        """uint8 [B, C, t, h, w] -> uint8, or numbers."""
        stride = (2, *self._stride[1:]) if self._paired else self._stride
        ones = [1, 1, 1]
        packed = _onednn.qconv_prepack(
            *(self.weight, self.weight_steps, 1.0, self._given_zero),
            *(stride, self._padding, ones, 1, list(values.shape)),
        )
        result: Tensor = convolved(
            *(values, self._given_zero, packed, self.weight_steps, self.weight_zeros, self.bias),
            *(list(self.weight.shape[2:]), list(stride), list(self._padding), *self._gives),
        )
        return _unpaired(result) if self._paired else result

    def added(self, values: Tensor, sums: Tensor, share: float) -> Tensor:
        """What `forward` would give, added to bytes before it is rounded, and the ReLU.

        Args:
            values: uint8 [B, C, t, h, w].
            sums: uint8 [B, out, t, h, w]; compiled, it is overwritten.
            share: how much one step of `sums` is in `unit`.

        Returns:
            uint8 [B, out, t, h, w], in `unit`.
        """
        frames = _frames(values)
        packed = _onednn.qconv_prepack(
            *(self.weight[:, :, 0], self.weight_steps, 1.0, self._given_zero),
            *([1, 1], [0, 0], [1, 1], 1, list(frames.shape)),
        )
        result: Tensor = added(
            *(frames, self._given_zero, packed, self.weight_steps, self.weight_zeros),
            *(_frames(sums), self.bias, share),
        )
        batch, _, time, *_ = sums.shape
        return result.view(batch, time, *result.shape[1:]).permute(0, 2, 1, 3, 4)

    def _twice(self, values: Tensor) -> Tensor:
        """What each output has, for both frames that are computed at once."""
        return values.repeat(2) if self._paired else values


def weight_steps(exact: Tensor) -> Tensor:
    """From one whole weight to the next, for each output: float64 [out]."""
    return exact.abs().amax((1, 2, 3, 4)).clamp_min(1e-12) / LARGEST_WEIGHT


class FloatConvolution(nn.Module):
    """A convolution in floating point, for where bytes are too coarse.

    Args:
        step: the convolution.
        dtype: what it computes with and gives.
        given: what its input's bytes stand for; None: it is given numbers.
        offset: number that is added to all inputs that are no padding, in steps of the input's scale.
    """

    def __init__(
        self, step: Convolution, dtype: torch.dtype, given: Scale | None = None, offset: float = 0.0
    ) -> None:
        super().__init__()
        self._step_sizes = (step.stride, step.padding)
        self._relu = step.relu
        self._offset = 0.0 if given is None else given.zero - offset
        weight = step.weight if given is None else step.weight.double() * given.step.view(1, -1, 1, 1, 1)
        self.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        self.bias = nn.Parameter(step.bias.to(dtype), requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        """uint8 or numbers [B, C, t, h, w] -> numbers."""
        stride, padding = self._step_sizes
        shifted = values.to(torch.float32) - self._offset if values.dtype == torch.uint8 else values
        result = functional.conv3d(shifted.to(self.weight.dtype), self.weight, self.bias, stride, padding)
        return result.relu() if self._relu else result


def _frames(values: Tensor) -> Tensor:
    """[B, C, t, h, w] -> [B t, C, h, w], which in memory is the same."""
    batch, channels, time, height, width = values.shape
    return values.permute(0, 2, 1, 3, 4).reshape(batch * time, channels, height, width)


def _unpaired(pairs: Tensor) -> Tensor:
    """Frames two by two in the channels, [B, 2 C, T, H, W] -> [B, C, 2 T, H, W]."""
    batch, channels, time, height, width = pairs.shape
    as_one = _AS_ONE.get(channels // 2) if pairs.dtype == torch.uint8 else None
    if as_one is not None:
        pixels = pairs.permute(0, 2, 3, 4, 1).contiguous().view(as_one)
        bytes_ = pixels.permute(0, 1, 4, 2, 3).contiguous().view(torch.uint8)
        return bytes_.view(batch, 2 * time, height, width, channels // 2).permute(0, 4, 1, 2, 3)
    apart = pairs.view(batch, 2, channels // 2, time, height, width).permute(0, 2, 3, 1, 4, 5)
    return apart.reshape(batch, channels // 2, 2 * time, height, width)
