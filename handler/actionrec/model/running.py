"""A batch that a device works on: its scores, and feature maps for whoever asked, once they are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from ..head import Floats
from ..reply import Scores


class _Event(Protocol):
    def synchronize(self) -> None: ...


@dataclass(frozen=True)
class Part:
    """Some rows of a batch, in the host's memory."""

    scores: Tensor
    """Probabilities float32 [B, classes]."""
    maps: Mapping[int, Sequence[Tensor]] = field(default_factory=dict)
    """Row -> its maps, float32 [C, t, h, w], one a pathway."""
    done: _Event | None = None
    """When both are there; None: they are."""


class Running:
    """A batch that was started.

    Args:
        parts: its rows, in order.
        examined: surrounds each wait, in which a GPU's errors show. Default: nothing does.
    """

    def __init__(
        self, parts: Sequence[Part], examined: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._parts = parts
        self._examined = examined

    def scores(self) -> Scores:
        """Wait for the batch; probabilities float32 [B, classes]."""
        self._wait()
        return np.concatenate([part.scores.numpy() for part in self._parts])

    def maps(self) -> dict[int, list[Floats]]:
        """Wait for the batch; of each row that was asked for its maps, float32 [C, t, h, w], one a pathway."""
        self._wait()
        found: dict[int, list[Floats]] = {}
        first = 0
        for part in self._parts:
            found |= {first + row: [one.numpy() for one in maps] for row, maps in part.maps.items()}
            first += len(part.scores)
        return found

    def _wait(self) -> None:
        with self._examined():
            for part in self._parts:
                if part.done is not None:
                    part.done.synchronize()
