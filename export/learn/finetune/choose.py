"""How long to train, by videos that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..fit import Floats, Ints, Samples, calibrated


@dataclass(frozen=True)
class Chosen:
    """Epochs; 0 is the network before any training."""

    of_folds: tuple[int, ...]
    """For each fold, chosen by all others: what the fold's own videos say has no part in it."""
    of_all: int
    """For the network that learns from all videos, chosen by all folds."""
    logits: Floats
    """float64 [windows, classes]: each window's after the epochs that the other folds chose."""
    before: Floats
    """The same before training."""


def choose(held_out: Sequence[Floats], rows: Sequence[Ints], samples: Samples) -> Chosen:
    """Choose the epochs with the least log loss, once the scores are as sure as they should be.

    The windows of several folds are judged together: those of one are so few that chance would decide.

    Args:
        held_out: for each fold float64 [epochs + 1, windows, classes]: what its network says of its held-out
            windows, from before the first epoch on. One that stopped early counts with its last epoch from
            there on.
        rows: for each fold int64 [windows]: which of the samples those are.
        samples: all windows.
    """
    longest = max(map(len, held_out))
    curves = np.empty((longest, len(samples.classes), samples.count))
    for logits, mine in zip(held_out, rows, strict=True):
        curves[:, mine] = np.concatenate([logits, np.repeat(logits[-1:], longest - len(logits), axis=0)])

    def best(judging: Sequence[Ints]) -> int:
        chosen = np.sort(np.concatenate(judging))
        some = samples.rows(chosen)
        return int(np.argmin([calibrated(logits[chosen], some)[1] for logits in curves]))

    of_folds = tuple(best([*rows[:fold], *rows[fold + 1 :]]) for fold in range(len(rows)))
    chosen = np.empty_like(curves[0])
    for epoch, mine in zip(of_folds, rows, strict=True):
        chosen[mine] = curves[epoch, mine]
    return Chosen(of_folds, best(rows), chosen, curves[0])
