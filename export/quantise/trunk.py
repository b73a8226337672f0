"""A network's steps with bytes between them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import reduce

import torch
from actionrec.model.int8 import register
from actionrec.model.transform import LAYOUT
from actionrec.spec import ClipSpec
from torch import Tensor, nn

from .in_place import sums_in_place, tied
from .layers import ByteConvolution, FloatConvolution, Scale, to_bytes
from .ranges import Ranges
from .steps import Addition, Concatenation, Convolution, Network, Pathway, Pool, Step


class ByteTrunk(nn.Module):
    """A trunk whose convolutions, all but a few, are of bytes.

    Pathways are whole levels, uint8 [B, 3, t, H, W] each; feature maps are float32. What is added is not
    rounded. Sums are computed in place (`in_place`) or in generated code, and rounded to bytes unless they are
    feature maps. What a convolution in floating point takes is not rounded either, unless it comes from one of
    bytes.

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
        register()
        self._network = network
        self._dtype = dtype
        sums = sums_in_place(network, floats)
        self._in_place = {each.addition: each for each in sums}
        self._added = {each.convolution: each.addition for each in sums}
        self._in_numbers = _in_numbers(network, frozenset(floats)) - self._added.keys()
        self.scales: dict[str, Scale] = {}
        """What each step's bytes stand for, where it gives bytes or somebody makes bytes of what it gives."""
        self.layers = nn.ModuleDict()
        ranges = tied(ranges, sums)
        for step in network.steps:
            self.scales[step.name] = self._scale(step, spec, ranges, margin)
            self.register_buffer(f"{step.name}_step", self.scales[step.name].shaped())
        self._shares = {each.addition: each.share(self.scales) for each in sums}
        for step in network.steps:
            if isinstance(step, Convolution):
                self.layers[step.name] = self._layer(step, spec, floats, dtype)

    def forward(self, pathways: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels -> feature maps."""
        given: dict[str, Tensor] = {}
        for step, pathway in zip(self._network.steps, pathways, strict=False):
            given[step.name] = pathway
        for step in self._network.steps[len(pathways) :]:
            given[step.name] = self.computed(step, [given[name] for name in step.inputs])
        return tuple(self._numbers(name, given[name]).float() for name in self._network.outputs)

    def computed(self, step: Step, inputs: Sequence[Tensor]) -> Tensor:
        """What a step gives, from what the steps before it gave: bytes (uint8) or numbers.

        A convolution that is added in place gives what it takes: the addition computes it.
        """
        if in_place := self._in_place.get(step.name):
            given = dict(zip(step.inputs, inputs, strict=True))
            layer = self.layers[in_place.convolution]
            assert isinstance(layer, ByteConvolution)
            return layer.added(given[in_place.convolution], given[in_place.shortcut], self._shares[step.name])
        if isinstance(step, Convolution):
            if step.name in self._added:
                return self.taken(step, inputs[0])
            result: Tensor = self.layers[step.name](self.taken(step, inputs[0]))
            return result if result.dtype == torch.uint8 else self._given(step, result)
        if isinstance(step, Addition):
            first, second = (self._numbers(*pair) for pair in zip(step.inputs, inputs, strict=True))
            return self._given(step, (first + second).relu())
        as_wanted = self._numbers if step.name in self._in_numbers else self._bytes
        inputs = [as_wanted(*pair) for pair in zip(step.inputs, inputs, strict=True)]
        if isinstance(step, Concatenation):
            # Channels are the innermost numbers in memory.
            inner = [each.permute(0, 2, 3, 4, 1) for each in inputs]
            return torch.cat(inner, -1).permute(0, 4, 1, 2, 3)
        assert isinstance(step, Pool)
        return _pooled(inputs[0], step)

    def taken(self, step: Convolution, values: Tensor) -> Tensor:
        """What the layer of a convolution is given, of what the step before it gave."""
        (source,) = step.inputs
        if isinstance(self.layers[step.name], ByteConvolution):
            return self._bytes(source, values)
        return values if self._is_pathway(source) else self._numbers(source, values)

    def _scale(self, step: Step, spec: ClipSpec, ranges: Ranges, margin: float) -> Scale:
        """What the bytes that a step gives stand for."""
        if isinstance(step, Pathway):
            zero, _ = _zero_level(spec)
            return Scale(torch.tensor([1 / (255 * std) for std in spec.std], dtype=torch.float64), zero)
        if isinstance(step, Concatenation):
            return Scale(torch.cat([self.scales[name].step for name in step.inputs]), 0)
        if isinstance(step, Pool):
            return self.scales[step.inputs[0]]
        if isinstance(step, Convolution) and not step.relu:
            low, high = ranges[step.name].low, ranges[step.name].high
            return Scale.of_signed(torch.maximum(low.abs(), high.abs()) * margin)
        return Scale.of_positive(ranges[step.name].high * margin)

    def _layer(
        self, step: Convolution, spec: ClipSpec, floats: Collection[str], dtype: torch.dtype
    ) -> ByteConvolution | FloatConvolution:
        (source,) = step.inputs
        given, first = self.scales[source], self._is_pathway(source)
        offset = _zero_level(spec)[1] if first else 0.0
        if step.name in floats:
            return FloatConvolution(step, dtype, given if first else None, offset)
        gives = dtype if step.name in self._in_numbers else self.scales[self._added.get(step.name, step.name)]
        return ByteConvolution(step, given, gives, offset)

    def _is_pathway(self, name: str) -> bool:
        return name in [step.name for step in self._network.steps if isinstance(step, Pathway)]

    def _given(self, step: Step, numbers: Tensor) -> Tensor:
        """What a step that has computed numbers gives."""
        if step.name in self._in_numbers:
            return numbers.to(self._dtype)
        return self._bytes(step.name, numbers)

    def _numbers(self, name: str, values: Tensor) -> Tensor:
        """What a step gave, in floating point."""
        if values.dtype != torch.uint8:
            return values
        return (values.float() - self.scales[name].zero) * self.get_buffer(f"{name}_step")

    def _bytes(self, name: str, values: Tensor) -> Tensor:
        """What a step gave, in bytes."""
        if values.dtype == torch.uint8:
            return values
        scaled = values.float() * (1 / self.get_buffer(f"{name}_step"))
        return to_bytes(scaled + self.scales[name].zero)


def _in_numbers(network: Network, floats: frozenset[str]) -> frozenset[str]:
    """Names of the steps that give numbers, not bytes.

    Those are the feature maps, what convolutions give to sums, and what convolutions in floating point take
    unless it comes from one of bytes.
    """
    found: set[str] = set()
    for step in reversed(network.steps):
        users = network.users(step.name)
        summand = isinstance(step, Convolution) and any(isinstance(user, Addition) for user in users)
        of_bytes = isinstance(step, Convolution) and step.name not in floats
        if summand or (
            not isinstance(step, Pathway)
            and not of_bytes
            and (
                (step.name in network.outputs and not users)
                or any(user.name in floats for user in users)
                or any(user.name in found for user in users if isinstance(user, Concatenation | Pool))
            )
        ):
            found.add(step.name)
    return frozenset(found)


def _zero_level(spec: ClipSpec) -> tuple[int, float]:
    """The level that stands nearest to the recipe's mean, and how far the mean is below it, in levels."""
    mean = 255 * spec.mean[0]
    if any(each != spec.mean[0] for each in spec.mean):
        raise ValueError(f"int8 is for recipes with one mean for all colours, not {spec.mean}")
    return round(mean), round(mean) - mean


def _pooled(values: Tensor, step: Pool) -> Tensor:
    """A maximum over windows of bytes or numbers. torch has none for bytes; this is generated code.

    Where a window begins before the edge or ends after it, the pixel at the edge is taken again, which changes
    no maximum.
    """
    rows, columns = (_taken(values.shape[axis], step) for axis in (3, 4))
    windows = [values[:, :, :, row][..., column] for row in rows for column in columns]
    return reduce(torch.maximum, windows).contiguous(memory_format=LAYOUT)


def _taken(length: int, step: Pool) -> list[Tensor]:
    """For each place within a window, the pixels of an axis that are there in each window: int64 [windows]."""
    count = (length + 2 * step.padding - step.kernel) // step.stride + 1
    first = torch.arange(count) * step.stride - step.padding
    return [(first + place).clamp(0, length - 1) for place in range(step.kernel)]
