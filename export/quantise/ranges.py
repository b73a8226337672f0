"""What each step of a network gives on calibration clips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from actionrec.model.transform import pack
from actionrec.spec import ClipSpec
from torch import Tensor

from .steps import Network


@dataclass(frozen=True)
class Range:
    """The least and the largest number that each channel of a step has given."""

    low: Tensor
    """float64 [C]"""
    high: Tensor
    """float64 [C]"""

    def joined(self, other: Range) -> Range:
        """The range that holds both."""
        return Range(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))


Ranges = dict[str, Range]
"""By the step's name."""


def observe(network: Network, spec: ClipSpec, clips: Tensor) -> Ranges:
    """Run a network in floating point on clips, and note the range of each channel of each step.

    Args:
        network: the trunk's steps.
        spec: what it eats.
        clips: int16 [N, T, H, W, 3].
    """
    found: Ranges = {}

    def see(name: str, values: Tensor) -> None:
        new = Range(*_per_channel(values))
        found[name] = found[name].joined(new) if name in found else new

    for clip in torch.split(clips, 1):
        network.run(pack(clip, spec), see)
    return found


def _per_channel(values: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest of [1, C, t, h, w] for each channel, float64 [C] each."""
    rows = values[0].flatten(1)
    return rows.amin(1).double(), rows.amax(1).double()
