"""The gate before an archive: the exported model against the eager one, on decoded clips.

The exported model is loaded and run by `actionrec.model.runtime`, as the server does it, so what that does to a
model (fusing, another layout of the weights) is inside the comparison. What is compared is what users see:
scores. The clips go through it in batches of one, of three and of the rest, so a batch size that tracing has
baked in, or one that a GPU fills up, shows too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from actionrec.model.runtime import Runtime
from actionrec.model.transform import pack
from actionrec.reply import Scores
from actionrec.spec import ClipSpec
from torch import Tensor, nn

from .errors import ParityError

CLIPS = 4
ROUNDED_CLIPS = 16
"""Where the precision is not fp32: what rounding changes is seen on some clips and not on others."""
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
    """Least share of the clips whose best label is the same."""


TOLERANCES = {
    "fp32": Tolerance(score=1e-3, ratio=0.05, top1_agreement=1.0),
    # Factors of 11 bits, like half precision's; sums and what is between the layers keep float32's 24.
    "tf32": Tolerance(score=2e-2, ratio=0.5, top1_agreement=0.75),
    # Half precision has 11 bits: two labels that are as good as equal may change places.
    "fp16": Tolerance(score=2e-2, ratio=0.5, top1_agreement=0.75),
    # bf16 has 8.
    "bf16": Tolerance(score=1e-1, ratio=2.0, top1_agreement=0.75),
}
LEAST_SCORE = 1e-30
"""Scores below this count as this much: float32 ends soon after."""


def clips_of(precision: str) -> int:
    """How many clips the gate of a precision needs."""
    return CLIPS if precision == "fp32" else ROUNDED_CLIPS


def check(eager: nn.Module, exported: Runtime, precision: str, clips: Tensor) -> dict[str, Any]:
    """Compare two models on clips.

    Args:
        eager: float32, on the CPU, in evaluation mode.
        exported: the exported model as the server runs it.
        precision: its precision, a key of `TOLERANCES`.
        clips: int16 [N, T, H, W, 3], RGB; N at least 2.

    Returns:
        The report that goes into the archive: plain numbers.

    Raises:
        ParityError: beyond `TOLERANCES`.
    """
    expected = np.concatenate([_eager_scores(eager, exported.spec, clip) for clip in torch.split(clips, 1)])
    sizes = [1, min(3, len(clips) - 1), max(0, len(clips) - 4)]
    batches = [list(batch.numpy()) for batch in torch.split(clips, [size for size in sizes if size])]
    got = np.concatenate([exported.scores(exported.transform(batch)) for batch in batches])
    if got.shape != expected.shape:
        raise ParityError(
            f"the exported model gives scores {list(got.shape)}, the eager one {list(expected.shape)}"
        )
    tolerance = TOLERANCES[precision]
    difference = float(np.abs(got - expected).max())
    ratio = float(np.abs(np.log(np.maximum(got, LEAST_SCORE) / np.maximum(expected, LEAST_SCORE))).max())
    agreement = float((got.argmax(1) == expected.argmax(1)).mean())
    # Written so that a NaN fails: it compares as False with everything.
    if not (
        difference <= tolerance.score and ratio <= tolerance.ratio and agreement >= tolerance.top1_agreement
    ):
        raise ParityError(
            f"the exported model is not the eager one: scores differ by up to {difference:.3g} (tolerance "
            f"{tolerance.score:g}) and a factor of {np.exp(ratio):.3g} ({np.exp(tolerance.ratio):.3g}), the "
            f"best label agrees on {agreement:.0%} of {len(clips)} clips ({tolerance.top1_agreement:.0%})",
            "No archive was written. Try another PRECISION or RUNTIME, and report the model that does this.",
        )
    return {
        "clips": len(clips),
        "max_abs_score_difference": difference,
        "max_log_score_ratio": ratio,
        "top1_agreement": agreement,
        "tolerance": tolerance.score,
        "log_ratio_tolerance": tolerance.ratio,
        "least_top1_agreement": tolerance.top1_agreement,
        "distinct_top1": len(set(expected.argmax(1).tolist())),
    }


@torch.inference_mode()
def _eager_scores(model: nn.Module, spec: ClipSpec, clips: Tensor) -> Scores:
    """Clips int16 [B, T, H, W, 3] -> probabilities float32 [B, classes]."""
    scores: Scores = model(pack(clips, spec)).softmax(dim=1).numpy()
    return scores
