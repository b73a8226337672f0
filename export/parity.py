"""The gate before an archive: the exported model against the eager one, on decoded clips.

The exported model is loaded and run by `actionrec.model.runtime`, as the server does it, so what that does to a
model (fusing, another layout of the weights) is inside the comparison. What is compared is what users see:
scores, and the feature maps that embeddings and explanations are made from. The clips go through it in batches
of one, of three and of the rest, so a batch size that tracing has baked in, or one that a GPU fills up, shows
too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from actionrec.head import Floats
from actionrec.model.runtime import Runtime
from actionrec.model.transform import pack
from actionrec.reply import Scores
from actionrec.spec import ClipSpec
from torch import Tensor, nn

from .errors import ParityError
from .quantise.choose import TIE, WANTED, as_good
from .split import split

CLIPS = 4
ROUNDED_CLIPS = 16
"""Where the precision is not fp32: what rounding changes is seen on some clips and not on others."""
QUANTISED_CLIPS = 32
"""For int8: one clip is 3 %."""
SEED = 1000
"""Of the clips; not those that random weights are calibrated on."""


@dataclass(frozen=True)
class Tolerance:
    """How far the exported model may be from the eager float32 one."""

    score: float
    """Largest difference of any score (0..1) of any clip."""
    ratio: float
    """Largest |log(score / score)| of any score, however small: where the best label has 0.9999 already, the
    others still tell whether the two models compute the same."""
    top1_agreement: float
    """Least share of the clips whose best label is the same, but for ties."""
    mean_score: float
    """Largest mean over the clips of the largest difference of a score of each."""
    map: float
    """Largest root mean square of a feature map's differences, as a share of its own root mean square."""
    tie: float = 0.0
    """Labels whose scores, of the eager model, differ by at most this are as good as each other."""


TOLERANCES = {
    "fp32": Tolerance(score=1e-3, ratio=0.05, top1_agreement=1.0, mean_score=1e-3, map=1e-3),
    # Factors of 11 bits, like half precision's; sums and what is between the layers keep float32's 24.
    "tf32": Tolerance(score=2e-2, ratio=0.5, top1_agreement=0.75, mean_score=2e-2, map=0.02),
    # Half precision has 11 bits: two labels that are as good as equal may change places.
    "fp16": Tolerance(score=2e-2, ratio=0.5, top1_agreement=0.75, mean_score=2e-2, map=0.02),
    # bf16 has 8.
    "bf16": Tolerance(score=1e-1, ratio=2.0, top1_agreement=0.75, mean_score=1e-1, map=0.1),
    # 8, and the range of each channel is only known from clips: single scores may be far off.
    "int8": Tolerance(
        score=1.0,
        ratio=math.inf,
        top1_agreement=WANTED.top1_agreement,
        mean_score=WANTED.mean_difference,
        map=1.0,  # a clip that hardly excites a channel leaves it coarse; scores judge
        tie=TIE,
    ),
}
LEAST_SCORE = 1e-30
"""Scores below this count as this much: float32 ends soon after."""


def clips_of(precision: str) -> int:
    """How many clips the gate of a precision needs."""
    return {"fp32": CLIPS, "int8": QUANTISED_CLIPS}.get(precision, ROUNDED_CLIPS)


def check(
    eager: nn.Module, exported: Runtime, precision: str, clips: Tensor, tolerance: Tolerance | None = None
) -> dict[str, Any]:
    """Compare two models on clips.

    Args:
        eager: float32, on the CPU, in evaluation mode.
        exported: the exported model as the server runs it.
        precision: its precision, a key of `TOLERANCES`.
        clips: int16 [N, T, H, W, 3], RGB; N at least 2.
        tolerance: None: that of the precision.

    Returns:
        The report that goes into the archive: plain numbers.

    Raises:
        ParityError: beyond the tolerance.
    """
    trunk, _ = split(eager, exported.spec)
    expected = np.concatenate([_eager_scores(eager, exported.spec, clip) for clip in torch.split(clips, 1)])
    sizes = [1, min(3, len(clips) - 1), max(0, len(clips) - 4)]
    got_rows, map_difference = [], 0.0
    for batch in torch.split(clips, [size for size in sizes if size]):
        running = exported.compute(exported.transform(list(batch.numpy())), maps_of=range(len(batch)))
        got_rows.append(running.scores())
        maps = running.maps()
        differences = [_map_difference(trunk, exported.spec, clip, maps[row]) for row, clip in enumerate(batch)]
        map_difference = float(np.max([map_difference, *differences]))
    got = np.concatenate(got_rows)
    if got.shape != expected.shape:
        raise ParityError(
            f"the exported model gives scores {list(got.shape)}, the eager one {list(expected.shape)}"
        )
    tolerance = tolerance or TOLERANCES[precision]
    differences = np.abs(got - expected).max(1)
    difference, mean = float(differences.max()), float(differences.mean())
    ratio = float(np.abs(np.log(np.maximum(got, LEAST_SCORE) / np.maximum(expected, LEAST_SCORE))).max())
    agreement = float(as_good(torch.from_numpy(got), torch.from_numpy(expected), tolerance.tie).float().mean())
    # Written so that a NaN fails: it compares as False with everything.
    if not (
        difference <= tolerance.score
        and mean <= tolerance.mean_score
        and ratio <= tolerance.ratio
        and agreement >= tolerance.top1_agreement
        and map_difference <= tolerance.map
    ):
        raise ParityError(
            f"the exported model is not the eager one: scores differ by up to {difference:.3g} (tolerance "
            f"{tolerance.score:g}), {mean:.3g} in the mean ({tolerance.mean_score:g}) and a factor of "
            f"{np.exp(ratio):.3g} ({np.exp(tolerance.ratio):.3g}), feature maps by {map_difference:.3g} of "
            f"their size ({tolerance.map:g}), the best label agrees on {agreement:.0%} of {len(clips)} clips "
            f"({tolerance.top1_agreement:.0%})",
            "No archive was written. Try another PRECISION or RUNTIME, and report the model that does this.",
        )
    return {
        "clips": len(clips),
        "max_abs_score_difference": difference,
        "mean_score_difference": mean,
        "max_log_score_ratio": ratio,
        "top1_agreement": float((got.argmax(1) == expected.argmax(1)).mean()),
        "top1_agreement_but_for_ties": agreement,
        "max_map_difference": map_difference,
        "tolerance": tolerance.score,
        "mean_tolerance": tolerance.mean_score,
        "log_ratio_tolerance": tolerance.ratio,
        "least_top1_agreement": tolerance.top1_agreement,
        "map_tolerance": tolerance.map,
        "distinct_top1": len(set(expected.argmax(1).tolist())),
    }


@torch.inference_mode()
def _map_difference(trunk: nn.Module, spec: ClipSpec, clip: Tensor, got: Sequence[Floats]) -> float:
    """The largest difference of a clip's feature maps, as `Tolerance.map` has it."""
    expected = [one[0].numpy() for one in trunk(pack(clip[None], spec))]
    return max(_rms(one - right) / _rms(right) for one, right in zip(got, expected, strict=True))


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


@torch.inference_mode()
def _eager_scores(model: nn.Module, spec: ClipSpec, clips: Tensor) -> Scores:
    """Clips int16 [B, T, H, W, 3] -> probabilities float32 [B, classes]."""
    scores: Scores = model(pack(clips, spec)).softmax(dim=1).numpy()
    return scores
