"""Sums that oneDNN computes in place: what a convolution gives is added to the bytes of its shortcut.

    bytes --convolutions--> --convolution of 1 x 1--+
      |                                             |  one kernel, which rounds once
      +------------------------------------------> sum: the same bytes, overwritten

oneDNN knows one scale for all the bytes that it adds to. So the scales of a chain of such sums differ from each
other by a factor that is the same for all channels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from .layers import Scale
from .ranges import Range, Ranges
from .steps import Addition, Convolution, Network, Step


@dataclass(frozen=True, slots=True)
class InPlace:
    """A sum that is computed in place."""

    addition: str
    convolution: str
    shortcut: str
    """The step whose bytes are overwritten; an addition too."""

    def share(self, scales: dict[str, Scale]) -> float:
        """How much a step of the shortcut's bytes is in steps of the sum's."""
        ratios = scales[self.shortcut].step / scales[self.addition].step
        return float(ratios.mean())


def sums_in_place(network: Network, floats: Collection[str]) -> list[InPlace]:
    """The sums of a network that can be computed so, in their order.

    Args:
        network: its steps.
        floats: names of the convolutions that are computed in floating point.
    """
    order = {step.name: number for number, step in enumerate(network.steps)}
    steps = {step.name: step for step in network.steps}

    def are_bytes(step: Step) -> bool:
        takers = network.users(step.name)
        return step.name not in network.outputs and not any(user.name in floats for user in takers)

    def fits(addition: Step, convolution: Step, shortcut: Step) -> bool:
        others = [user for user in network.users(shortcut.name) if user is not addition]
        return (
            isinstance(convolution, Convolution)
            and convolution.weight.shape[2:] == (1, 1, 1)
            and convolution.stride == (1, 1, 1)
            and not convolution.relu
            and convolution.name not in floats
            and network.users(convolution.name) == [addition]
            and isinstance(shortcut, Addition)
            and are_bytes(shortcut)
            and are_bytes(addition)
            and all(order[user.name] < order[addition.name] for user in others)
        )

    found = []
    for step in network.steps:
        if isinstance(step, Addition):
            first, second = (steps[name] for name in step.inputs)
            for convolution, shortcut in ((first, second), (second, first)):
                if fits(step, convolution, shortcut):
                    found.append(InPlace(step.name, convolution.name, shortcut.name))
                    break
    return found


def tied(ranges: Ranges, sums: Sequence[InPlace]) -> Ranges:
    """Ranges as wide as they have to be so that a sum's is in one ratio to its shortcut's, in all channels."""
    chains: list[list[str]] = []
    for each in sums:
        chain = next((chain for chain in chains if chain[-1] == each.shortcut), None)
        if chain is None:
            chains.append([each.shortcut, each.addition])
        else:
            chain.append(each.addition)
    wider = dict(ranges)
    for chain in chains:
        highs = [Scale.of_positive(ranges[name].high).step for name in chain]
        shape = torch.stack([high / high.median() for high in highs]).amax(0)
        for name, high in zip(chain, highs, strict=True):
            wider[name] = Range(ranges[name].low, shape * (high / shape).max() * 255)
    return wider
