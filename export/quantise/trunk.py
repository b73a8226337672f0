"""A network's steps with bytes between them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import reduce

import torch
from actionrec.model.transform import LAYOUT
from actionrec.spec import ClipSpec
from torch import Tensor, nn

from .layers import ByteConvolution, FloatConvolution, Scale, to_bytes
from .ranges import Ranges
from .steps import Addition, Concatenation, Convolution, Network, Pathway, Pool, Step


class ByteTrunk(nn.Module):
    """A trunk whose convolutions, all but a few, are of bytes.

    Pathways are whole levels, uint8 [B, 3, t, H, W] each; feature maps are float32. A sum is computed in
    floating point, in generated code, and rounded to bytes unless it is a feature map.

    Args:
        network: the trunk in floating point.
        spec: what it eats.
        ranges: of the network's steps, on calibration clips.
        margin: how many times as large as in `ranges` the numbers may become.
        floats: names of the convolutions that stay in floating point.
        dtype: what these compute with.
    """

    def __init__(
        self,
        network: Network,
        spec: ClipSpec,
        ranges: Ranges,
        margin: float = 1.0,
        floats: Collection[str] = (),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self._network = network
        self._scales: dict[str, Scale | None] = {}
        """Of each step's bytes; None: it gives numbers."""
        self._layers = nn.ModuleDict()
        for step in network.steps:
            self._scales[step.name] = self._scale(step, spec, ranges, margin, floats)
            if isinstance(step, Convolution):
                self._layers[step.name] = self._layer(step, spec, floats, dtype)
            for name in step.inputs if isinstance(step, Addition) else ():
                self._keep(f"{name}_step", self._scales[name])
            if step.name in network.outputs or isinstance(step, Addition) or step.name in floats:
                self._keep(f"{step.name}_step", self._scales[step.name])

    def forward(self, pathways: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels -> feature maps."""
        given: dict[str, Tensor] = {}
        for step, pathway in zip(self._network.steps, pathways, strict=False):
            given[step.name] = pathway
        for step in self._network.steps[len(pathways) :]:
            given[step.name] = self._computed(step, [given[name] for name in step.inputs])
        return tuple(self._numbers(name, given[name]) for name in self._network.outputs)

    def _computed(self, step: Step, inputs: list[Tensor]) -> Tensor:
        if isinstance(step, Convolution):
            result: Tensor = self._layers[step.name](*inputs)
            # A convolution in floating point gives numbers; whoever adds them takes them as they are.
            return result if result.dtype == torch.uint8 else self._bytes(step.name, result)
        if isinstance(step, Addition):
            first, second = (self._numbers(*pair) for pair in zip(step.inputs, inputs, strict=True))
            return self._bytes(step.name, (first + second).relu())
        if isinstance(step, Concatenation):
            # Channels are the innermost numbers in memory.
            inner = [each.permute(0, 2, 3, 4, 1) for each in inputs]
            return torch.cat(inner, -1).permute(0, 4, 1, 2, 3)
        assert isinstance(step, Pool)
        return _pooled(inputs[0], step)

    def _scale(
        self, step: Step, spec: ClipSpec, ranges: Ranges, margin: float, floats: Collection[str]
    ) -> Scale | None:
        """What the bytes that a step gives stand for; None where it gives numbers."""
        users = self._network.users(step.name)
        if isinstance(step, Pathway):
            zero, _ = _zero_level(spec)
            return Scale(torch.tensor([1 / (255 * std) for std in spec.std], dtype=torch.float64), zero)
        if isinstance(step, Concatenation):
            scales = [self._scales[name] for name in step.inputs]
            return Scale(torch.cat([scale.step for scale in scales if scale is not None]), 0)
        if isinstance(step, Pool):
            return self._scales[step.inputs[0]]
        if (
            step.name in self._network.outputs
            and not users
            and (isinstance(step, Addition) or step.name in floats)
        ):
            return None
        if isinstance(step, Convolution) and not step.relu:
            if step.name in floats:
                return None
            low, high = ranges[step.name].low, ranges[step.name].high
            return Scale.of_signed(torch.maximum(low.abs(), high.abs()) * margin)
        return Scale.of_positive(ranges[step.name].high * margin)

    def _layer(
        self, step: Convolution, spec: ClipSpec, floats: Collection[str], dtype: torch.dtype
    ) -> ByteConvolution | FloatConvolution:
        (source,) = step.inputs
        given, gives = self._scales[source], self._scales[step.name]
        assert given is not None
        first = source in [each.name for each in self._network.steps if isinstance(each, Pathway)]
        offset = _zero_level(spec)[1] if first else 0.0
        if step.name in floats:
            return FloatConvolution(step, given, dtype, offset)
        assert gives is not None
        return ByteConvolution(step, given, gives, offset)

    def _keep(self, name: str, scale: Scale | None) -> None:
        if scale is not None and name not in dict(self.named_buffers()):
            self.register_buffer(name, scale.shaped())

    def _numbers(self, name: str, values: Tensor) -> Tensor:
        """What a step gives, in floating point."""
        scale = self._scales[name]
        if scale is None:
            return values
        return (values.float() - scale.zero) * self.get_buffer(f"{name}_step")

    def _bytes(self, name: str, values: Tensor) -> Tensor:
        """Numbers as a step gives them: in bytes, unless it gives numbers."""
        if self._scales[name] is None:
            return values
        return to_bytes(values * (1 / self.get_buffer(f"{name}_step")))


def _zero_level(spec: ClipSpec) -> tuple[int, float]:
    """The level that stands nearest to the recipe's mean, and how far the mean is below it, in levels."""
    mean = 255 * spec.mean[0]
    if any(each != spec.mean[0] for each in spec.mean):
        raise ValueError(f"int8 is for recipes with one mean for all colours, not {spec.mean}")
    return round(mean), round(mean) - mean


def _pooled(values: Tensor, step: Pool) -> Tensor:
    """A maximum over windows of bytes, which after a ReLU are at least 0. torch has none for bytes; this is
    generated code.
    """
    batch, channels, time, height, width = values.shape
    frames = values.permute(0, 2, 1, 3, 4).reshape(batch * time, channels, height, width)
    frames = nn.functional.pad(frames, [step.padding] * 4)
    for axis, length in ((3, width), (2, height)):
        count = (length + 2 * step.padding - step.kernel) // step.stride + 1
        stop = (count - 1) * step.stride + 1
        windows = [_every(frames, axis, shift, shift + stop, step.stride) for shift in range(step.kernel)]
        frames = reduce(torch.maximum, windows)
    _, _, height, width = frames.shape
    pooled = frames.view(batch, time, channels, height, width).permute(0, 2, 1, 3, 4)
    return pooled.contiguous(memory_format=LAYOUT)


def _every(values: Tensor, axis: int, start: int, stop: int, stride: int) -> Tensor:
    """Every so many of an axis of [N, C, H, W]."""
    return values[..., start:stop:stride] if axis == 3 else values[..., start:stop:stride, :]
