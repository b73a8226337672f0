"""How long to train, by videos that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Chosen:
    """Epochs; 0 is the network before any training."""

    of_folds: tuple[int, ...]
    """For each fold, chosen by all others: what the fold's own videos say has no part in it."""
    of_all: int
    """For the network that learns from all videos, chosen by all folds."""


def choose(losses: Sequence[Sequence[float]]) -> Chosen:
    """Choose the epochs with the least loss.

    Args:
        losses: for each fold the loss of its held-out videos after each epoch, from before the first one on. A
            fold that stopped early counts with its last one from there on.
    """
    longest = max(map(len, losses))
    curves = np.array([[*curve, *[curve[-1]] * (longest - len(curve))] for curve in losses])
    others = [np.delete(curves, fold, 0).mean(0) for fold in range(len(curves))]
    return Chosen(tuple(int(curve.argmin()) for curve in others), int(curves.mean(0).argmin()))
