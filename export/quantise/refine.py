"""A byte trunk's weights and biases, fitted to clips: one layer after the other, on what those before it give.

Rounding to bytes leaves errors of two kinds. Those of activations are new at every place, and the pools at the
end average them out. Those of weights are the same at every place and in every clip, and remain. So weights are
rounded one column after the other, and what one has lost those after it make up for, as far as the inputs of
both go together (Frantar et al., "OPTQ", ICLR 2023). Then each bias takes over what its layer is off on average
(Nagel et al., "Data-Free Quantization", ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from actionrec.model.transform import pack
from actionrec.spec import ClipSpec
from torch import Tensor
from torch.nn import functional

from .layers import LARGEST_WEIGHT, ByteConvolution, weight_steps
from .steps import Convolution, Network, Step
from .trunk import ByteTrunk

CLIPS = 8
"""That are kept in memory side by side: of a SlowFast R50 at 256 x 256 about 200 MB each."""
_PLACES = 256
"""Of each clip, at which the inputs of a layer are looked at."""
_DAMPING = 0.05
"""Share of the inputs' mean variance that is added to each: the places are few, and other clips differ."""
_COLUMNS = 128
"""That are rounded before what they have lost is spread over all columns after them."""


@torch.no_grad()
def refine(
    trunk: ByteTrunk, network: Network, spec: ClipSpec, clips: Tensor, step: Callable[[], object] = bool
) -> None:
    """Fit a trunk's layers of bytes to clips.

    Args:
        trunk: changed in place.
        network: what it was made from.
        spec: what it eats.
        clips: int16 [N, T, H, W, 3]; the first `CLIPS` are used.
        step: called after each convolution.
    """
    singly = torch.split(clips[:CLIPS], 1)
    true = _Passing(network, [pack(clip, spec) for clip in singly])
    rounded = _Passing(network, [pack(clip, spec, dtype=torch.uint8) for clip in singly])
    generator = torch.Generator().manual_seed(0)
    for each in network.steps:
        if isinstance(each, Convolution):
            layer = trunk.layers[each.name]
            if isinstance(layer, ByteConvolution):
                given = [trunk.taken(each, inputs[0]) for inputs in rounded.inputs(each)]
                _fit(layer, each, trunk, given, true.inputs(each), generator)
            step()
        if each.inputs:
            true.advance(each, lambda one, inputs: one(*inputs))
            rounded.advance(each, trunk.computed)


class _Passing:
    """What the steps of a network gave for some clips, as long as steps to come take it."""

    def __init__(self, network: Network, pathways: Sequence[Sequence[Tensor]]) -> None:
        names = [step.name for step in network.steps if not step.inputs]
        self._given = [dict(zip(names, each, strict=True)) for each in pathways]
        self._last_use = {name: step for step in network.steps for name in step.inputs}

    def inputs(self, step: Step) -> list[list[Tensor]]:
        """What a step takes, for each clip."""
        return [[given[name] for name in step.inputs] for given in self._given]

    def advance(self, step: Step, compute: Callable[[Step, list[Tensor]], Tensor]) -> None:
        """Compute a step for all clips."""
        for given, inputs in zip(self._given, self.inputs(step), strict=True):
            given[step.name] = compute(step, inputs)
            for name in set(step.inputs):
                if self._last_use[name] is step:
                    del given[name]


def _fit(
    layer: ByteConvolution,
    step: Convolution,
    trunk: ByteTrunk,
    given: Sequence[Tensor],
    true: Sequence[Sequence[Tensor]],
    generator: torch.Generator,
) -> None:
    """Round a layer's weights, and set its biases, by what it is given in bytes and in floating point."""
    (source,) = step.inputs
    before = trunk.scales[source]
    exact = layer.exact_weight(step, before)
    steps = weight_steps(exact)
    rows = torch.cat([_centred(_places(each.float() - before.zero, step, generator)) for each in given])
    columns = exact.flatten(1) / steps[:, None]
    layer.put(_rounded(columns, rows.double()).view_as(exact))
    off = [
        (_mean(functional.conv3d(inputs[0], step.weight, step.bias, step.stride, step.padding)) / layer.unit)
        - _mean(layer.unrounded(each))
        for each, inputs in zip(given, true, strict=True)
    ]
    layer.add(torch.stack(off).mean(0))


def _places(values: Tensor, step: Convolution, generator: torch.Generator) -> Tensor:
    """What a convolution multiplies with its weights at some places: [1, C, t, h, w] -> [places, inputs]."""
    time, height, width = step.padding
    padded = functional.pad(values, (width, width, height, height, time, time))
    for axis, (size, stride) in enumerate(zip(step.weight.shape[2:], step.stride, strict=True), start=2):
        padded = padded.unfold(axis, size, stride)
    windows = padded[0]  # [C, t, h, w, t', h', w']
    _, *shape = windows.shape[:4]
    count = shape[0] * shape[1] * shape[2]
    chosen = torch.unravel_index(torch.randint(count, (_PLACES,), generator=generator), tuple(shape))
    return windows[:, chosen[0], chosen[1], chosen[2]].transpose(0, 1).flatten(1)


def _centred(rows: Tensor) -> Tensor:
    """Rows without their mean, which biases take care of, and as large as those of any other clip."""
    rows = rows - rows.mean(0)
    return rows / rows.square().mean().sqrt().clamp_min(1e-3)


def _rounded(weight: Tensor, rows: Tensor) -> Tensor:
    """Weights [out, in] -> whole ones: what one column loses by rounding, those after it make up for.

    Args:
        weight: float64, in steps.
        rows: float64 [places, in]: what they are multiplied with.
    """
    moments = rows.T @ rows / len(rows)
    moments += (
        _DAMPING * moments.diagonal().mean().clamp_min(1e-12) * torch.eye(len(moments), dtype=moments.dtype)
    )
    # First the columns whose inputs vary most: they have all the others to make up for them.
    order = moments.diagonal().argsort(descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments[order][:, order]))
    shares = torch.linalg.cholesky(inverse, upper=True)
    left = weight[:, order]
    whole = torch.empty_like(left)
    count = left.shape[1]
    for start in range(0, count, _COLUMNS):
        stop = min(start + _COLUMNS, count)
        lost = torch.empty(len(left), stop - start, dtype=left.dtype)
        for column in range(start, stop):
            whole[:, column] = left[:, column].round().clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT)
            error = (left[:, column] - whole[:, column]) / shares[column, column]
            left[:, column + 1 : stop] -= error[:, None] * shares[column, column + 1 : stop]
            lost[:, column - start] = error
        left[:, stop:] -= lost @ shares[start:stop, stop:]
    return whole[:, order.argsort()]


def _mean(values: Tensor) -> Tensor:
    """Of each channel of [1, C, t, h, w], float64 [C]."""
    return values.mean((0, 2, 3, 4)).double()
