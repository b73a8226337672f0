"""A network as the few kinds of steps that can be computed with bytes: by its graph, not by its names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from actionrec.model.transform import LAYOUT
from actionrec.spec import ClipSpec
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional

from ..errors import ExportError

_aten = torch.ops.aten
Three = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the network. Its inputs are names of steps before it."""

    name: str
    inputs: tuple[str, ...]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the step computes, in floating point; [B, C, t, h, w]."""
        (given,) = inputs
        return given


class Pathway(Step):
    """What the model is given; computes nothing."""


@dataclass(frozen=True, eq=False)
class Convolution(Step):
    """A convolution with BatchNorm folded in, and the ReLU after it."""

    weight: Tensor = field(repr=False)
    """float32 [out, in, t, h, w]"""
    bias: Tensor = field(repr=False)
    """float32 [out]"""
    stride: Three
    padding: Three
    relu: bool

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Convolve."""
        result = functional.conv3d(inputs[0], self.weight, self.bias, self.stride, self.padding)
        return result.relu_() if self.relu else result


class Addition(Step):
    """A sum of two, and the ReLU after it."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Add."""
        return (inputs[0] + inputs[1]).relu_()


class Concatenation(Step):
    """Channels side by side."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Concatenate."""
        return torch.cat(inputs, 1).contiguous(memory_format=LAYOUT)


@dataclass(frozen=True, eq=False)
class Pool(Step):
    """A maximum over windows of pixels, after a ReLU."""

    kernel: int
    stride: int
    padding: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Pool within frames."""
        kernel, stride = (1, self.kernel, self.kernel), (1, self.stride, self.stride)
        pooled: Tensor = functional.max_pool3d(inputs[0], kernel, stride, (0, self.padding, self.padding))
        return pooled


@dataclass(frozen=True)
class Network:
    """A trunk as steps."""

    steps: tuple[Step, ...]
    """In an order in which they can be computed; first the pathways."""
    outputs: tuple[str, ...]
    """Names of the steps that give the feature maps, one a pathway."""

    @property
    def convolutions(self) -> list[Convolution]:
        """All of them, in order."""
        return [step for step in self.steps if isinstance(step, Convolution)]

    def users(self, name: str) -> list[Step]:
        """The steps that take what a step gives."""
        return [step for step in self.steps if name in step.inputs]

    @torch.inference_mode()
    def run(
        self, pathways: Sequence[Tensor], see: Callable[[str, Tensor], object] | None = None
    ) -> list[Tensor]:
        """The feature maps, in floating point.

        Args:
            pathways: float32 [B, 3, t, H, W] each.
            see: is shown what each step gives, which is not kept.
        """
        last_use = {name: step for step in self.steps for name in step.inputs}
        given: dict[str, Tensor] = {}
        for number, step in enumerate(self.steps):
            inputs = [given[name] for name in step.inputs]
            given[step.name] = step(*inputs) if inputs else pathways[number]
            if see is not None:
                see(step.name, given[step.name])
            # A SlowFast R50's steps give more than a gigabyte for one clip.
            for name in step.inputs:
                if last_use[name] is step and name not in self.outputs:
                    given.pop(name, None)
        return [given[name] for name in self.outputs]


@torch.no_grad()
def network(trunk: nn.Module, spec: ClipSpec) -> Network:
    """Take a trunk apart.

    Args:
        trunk: float32, with BatchNorm folded into its convolutions (`export.fold`).
        spec: what it eats.

    Raises:
        ExportError: it does something else than to convolve, add, concatenate and pool.
    """
    example = [torch.zeros(1, 3, count, spec.crop, spec.crop) for count in spec.pathways]
    program = torch.export.export(trunk, ([each.contiguous(memory_format=LAYOUT) for each in example],))
    weights = {
        spec_.arg.name: program.state_dict[spec_.target]
        for spec_ in program.graph_signature.input_specs
        if spec_.target is not None
    }
    steps: list[Step] = []
    relus: dict[str, str] = {}
    """ReLU -> the step that it is part of."""
    outputs: tuple[str, ...] = ()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name not in weights:
                steps.append(Pathway(node.name, ()))
        elif node.op == "output":
            outputs = tuple(relus.get(each.name, each.name) for each in node.args[0])
        elif node.target == _aten.relu.default:
            (source,) = node.all_input_nodes
            if len(source.users) > 1 or source.target not in (_aten.conv3d.default, _aten.add.Tensor):
                raise _unknown(f"a ReLU after {source.target}, which others take too")
            relus[node.name] = source.name
        else:
            steps.append(_step(node, weights, relus))
    return Network(tuple(steps), outputs)


def _step(node: Node, weights: dict[str, Tensor], relus: dict[str, str]) -> Step:
    inputs = tuple(relus.get(each.name, each.name) for each in node.all_input_nodes if each.name not in weights)
    arguments: tuple[Any, ...] = node.args
    relu = [user.target for user in node.users] == [_aten.relu.default]
    if node.target == _aten.conv3d.default:
        _, weight, bias, stride, padding, dilation, groups = arguments + _DEFAULTS[len(arguments) :]
        if list(dilation) != [1, 1, 1] or groups != 1:
            raise _unknown(f"a convolution with dilation {dilation} and {groups} groups")
        kernel = weights[weight.name].float()
        offset = torch.zeros(len(kernel)) if bias is None else weights[bias.name].float()
        return Convolution(node.name, inputs, kernel, offset, _three(stride), _three(padding), relu)
    if node.target == _aten.add.Tensor and len(inputs) == 2 and relu:
        return Addition(node.name, inputs)
    if node.target == _aten.cat.default and arguments[1:] == (1,):
        return Concatenation(node.name, inputs)
    if node.target == _aten.max_pool3d.default:
        sizes = [_three(size) for size in arguments[1:4]]
        within = [(1, kernel, kernel) for (_, kernel, _) in sizes[:2]]
        if sizes[:2] == within and sizes[2] == (0, sizes[2][1], sizes[2][1]) and len(arguments) == 4:
            return Pool(node.name, inputs, sizes[0][1], sizes[1][1], sizes[2][1])
    raise _unknown(f"{node.target} of {[str(each) for each in inputs]}")


_DEFAULTS: tuple[Any, ...] = (None, None, None, [1, 1, 1], [0, 0, 0], [1, 1, 1], 1)
"""Of conv3d's arguments."""


def _three(sizes: Sequence[int] | int) -> Three:
    first, second, third = [sizes] * 3 if isinstance(sizes, int) else sizes
    return first, second, third


def _unknown(what: str) -> ExportError:
    return ExportError(
        f"PRECISION=int8 is for convolutions, additions, concatenations and pools; this network has {what}",
        "Use PRECISION=fp32 or bf16 for it.",
    )
