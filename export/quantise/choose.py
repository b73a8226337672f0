"""How wide the ranges of bytes are, and which convolutions stay in floating point: until scores are close."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from actionrec.model.host import has_fast
from actionrec.model.transform import pack
from actionrec.spec import ClipSpec
from torch import Tensor, nn

from ..calibration import Calibration, generated
from ..fold import fold
from .ranges import observe
from .refine import refine
from .steps import Convolution, Network, network
from .trunk import ByteTrunk

MARGINS = (1.0, 1.15, 1.3, 1.5)
"""How many times as large as on calibration clips numbers may become. With a wide margin each byte is coarser;
with a narrow one, what another clip exceeds it by is cut off."""
FIRST = 3
"""How many convolutions are the first to be kept in floating point: of a SlowFast the stems."""


@dataclass(frozen=True)
class Closeness:
    """How close scores are to those in floating point."""

    top1_agreement: float
    """Share of the clips whose best label is the same, but for ties (`as_good`)."""
    mean_difference: float
    """Mean over the clips of the largest difference of a score."""

    def meets(self, other: Closeness) -> bool:
        """Whether it is at least as close as another."""
        return self.top1_agreement >= other.top1_agreement and self.mean_difference <= other.mean_difference


@dataclass(frozen=True)
class Quantising:
    """How a trunk is turned into bytes."""

    calibration: Calibration
    """Half of its clips give the ranges, the others judge."""
    wanted: Closeness
    """What the judging clips must reach."""
    say: Callable[[str], object] = bool
    """Is told what is being done."""

    @classmethod
    def default(cls, spec: ClipSpec) -> Quantising:
        """As close as by default, on generated clips."""
        return cls(generated(spec), WANTED)


WANTED = Closeness(top1_agreement=0.97, mean_difference=0.03)
"""What int8 reaches unless something else is asked for."""
TIE = WANTED.mean_difference
"""Labels whose scores are so near are a tie: which is the best depends on what scores may be off by anyway."""

Head = Callable[[Sequence[Tensor]], Tensor]
"""Feature maps -> logits."""


@torch.no_grad()
def quantise(
    trunk: nn.Module, head: Head, spec: ClipSpec, quantising: Quantising
) -> tuple[ByteTrunk, dict[str, Any]]:
    """Turn a trunk into bytes, as exactly as is wanted.

    Args:
        trunk: float32; left as it is.
        head: what stands behind it.
        spec: what it eats.
        quantising: calibration and what is wanted of it.

    Returns:
        The trunk in int8, and how it came about: plain values for the archive's description.

    Raises:
        ExportError: the network is of another kind.
    """
    calibration, wanted, say = quantising.calibration, quantising.wanted, quantising.say
    folded = copy.deepcopy(trunk)
    fold(folded, spec)
    net = network(folded, spec)
    say(f"observing {len(calibration.observed)} clips")
    ranges = observe(net, spec, calibration.observed)
    judge = _Judge(net, head, spec, calibration.judging)
    dtype = torch.bfloat16 if has_fast("bf16", "cpu") else torch.float32
    tried = {}
    for margin in MARGINS:
        say(f"trying ranges of {margin:g} x what was observed")
        tried[margin] = judge(ByteTrunk(net, spec, ranges, margin))
    margin = min(tried, key=lambda each: tried[each].mean_difference)
    names = [step.name for step in net.convolutions]
    for floats in _prefixes(names):
        say(
            f"fitting {len(names) - len(floats)} convolutions to the clips"
            + (f"; the first {len(floats)} stay in floating point" if floats else "")
        )
        found = ByteTrunk(net, spec, ranges, margin, floats, dtype)
        refine(found, net, spec, calibration.observed)
        reached = judge(found)
        say(f"scores differ by {reached.mean_difference:.3f}, {reached.top1_agreement:.0%} of the labels agree")
        if reached.meets(wanted):
            break
    report = {
        "calibrated_on": calibration.source,
        "clips": len(calibration.observed) + len(calibration.judging),
        "margin": margin,
        "convolutions": len(names),
        "in_floating_point": [_described(net, name) for name in floats],
        "top1_agreement": judge.agreement(),
        "top1_agreement_but_for_ties": reached.top1_agreement,
        "mean_score_difference": reached.mean_difference,
        "changed_labels": judge.changed(calibration),
    }
    return found.eval(), report


def _prefixes(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Which convolutions stay in floating point: first none, then ever more, from the first on.

    What the first ones are off by passes through all others, and grows there. And between neighbours in
    floating point nothing is rounded, which before and after a single one it would be.
    """
    count = 0
    while count < len(names):
        yield names[:count]
        count = max(FIRST, 2 * count)
    yield names


class _Judge:
    """Compares trunks with the network in floating point on clips."""

    def __init__(self, net: Network, head: Head, spec: ClipSpec, clips: Tensor) -> None:
        self._head, self._spec, self._clips = head, spec, clips
        self._expected = torch.cat([self._scores(net.run(pack(clip, spec))) for clip in torch.split(clips, 1)])
        self._last = self._expected

    def __call__(self, trunk: ByteTrunk) -> Closeness:
        levels = (pack(clip, self._spec, dtype=torch.uint8) for clip in torch.split(self._clips, 1))
        self._last = torch.cat([self._scores(trunk(each)) for each in levels])
        same = as_good(self._last, self._expected, TIE)
        difference = (self._last - self._expected).abs().amax(1)
        return Closeness(float(same.float().mean()), float(difference.mean()))

    def agreement(self) -> float:
        """Share of the clips whose best label the last trunk did not change, ties or not."""
        return float((self._last.argmax(1) == self._expected.argmax(1)).float().mean())

    def changed(self, calibration: Calibration) -> list[str]:
        """Names of the clips whose best label the last trunk changed; generated clips have none."""
        differ = self._last.argmax(1) != self._expected.argmax(1)
        return [name for name, other in zip(calibration.judging_names, differ.tolist(), strict=False) if other]

    def _scores(self, maps: Sequence[Tensor]) -> Tensor:
        return self._head(maps).softmax(1)


def as_good(scores: Tensor, true: Tensor, tie: float) -> Tensor:
    """Whether the label with the best score is, by the true scores, the best one or at most `tie` behind it.

    Args:
        scores: float [N, classes].
        true: float [N, classes].
        tie: a difference of scores.

    Returns:
        bool [N]
    """
    chosen = true.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    return chosen >= true.amax(1) - tie


def _described(net: Network, name: str) -> str:
    """A convolution by its place and its shape: names of a graph mean nothing to a reader."""
    number = [step.name for step in net.convolutions].index(name)
    step: Convolution = net.convolutions[number]
    out, channels, *kernel = step.weight.shape
    return f"{number}: {channels} -> {out}, {' x '.join(map(str, kernel))}"
