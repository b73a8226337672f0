"""Scores of one window after the other -> their exponential mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


class Smoother:
    """An exponential mean over the results: one that is `seconds` old counts 1/e (a third) of a new one.

    It goes by time and not by the number of results, so it is as quick where windows are skipped.

    Args:
        seconds: time constant, above 0.
    """

    def __init__(self, seconds: float) -> None:
        if seconds <= 0:
            raise ValueError(f"the time constant must be above 0 s, got {seconds}")
        self._seconds = seconds
        self.reset()

    def reset(self) -> None:
        """Forget what was, as after a gap."""
        self._scores: dict[int, float] = {}
        self._labels: dict[int, str] = {}
        self._at: float | None = None

    def add(self, at_seconds: float, predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The mean with one more result, best label first.

        Args:
            at_seconds: of the result, in the stream's time.
            predictions: entries with ``label``, ``class_index`` and ``score``; a missing label counts 0.
        """
        new = 1.0 if self._at is None else 1 - math.exp(-max(0.0, at_seconds - self._at) / self._seconds)
        self._at = at_seconds
        for index in self._scores:
            self._scores[index] *= 1 - new
        for entry in predictions:
            index = int(entry["class_index"])
            self._labels[index] = str(entry["label"])
            self._scores[index] = self._scores.get(index, 0.0) + new * float(entry["score"])
        order = sorted(self._scores, key=lambda index: (-self._scores[index], index))
        return [
            {"label": self._labels[index], "class_index": index, "score": round(self._scores[index], 6)}
            for index in order
        ]
