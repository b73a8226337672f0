"""What is checked and measured: on a GPU in full; in a rehearsal on the CPU, through the same code, with small
sizes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from actionrec.model.runtime import DTYPES

from export.artifacts import EXPORTERS

R50, MOTION = "slowfast_r50", "motion"
EAGER = "eager"
"""The model as torch runs it, channels_last_3d: what every runtime is measured against."""
_WORTH = "fp16", "tf32", "bf16", "fp32"
"""Precisions in the order in which their figures are wanted, where time is short."""
PRECISIONS = tuple(sorted(DTYPES, key=lambda name: _WORTH.index(name) if name in _WORTH else len(_WORTH)))
RUNTIMES = tuple(EXPORTERS)


@dataclass(frozen=True)
class Plan:
    """Sizes of everything."""

    device: str = "cuda"
    """``cuda`` or ``cpu``."""
    models: tuple[str, ...] = (R50, MOTION)
    """Compared with the eager model; the first is measured and served."""
    crop: int | None = None
    """Pixels of `R50`'s crop; None: its own 256."""
    runtimes: tuple[str, ...] = RUNTIMES
    precisions: tuple[str, ...] = PRECISIONS
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    rounds: int = 5
    """Turns of each candidate at each batch size."""
    turn_seconds: float = 0.15
    """The least that a candidate runs in a turn."""
    matrix: int = 8192
    """Edge of the matrices whose product is the peak."""
    copied_bytes: int = 2**31
    """Of the copy within the device's memory that is the peak of that."""
    clips: tuple[tuple[int, int], ...] = ((340, 256), (1920, 1080))
    """Width and height of the clips that are served."""
    clients: tuple[int, ...] = (1, 8, 32, 64)
    """No more than TorchServe's queue holds, or it refuses some."""
    load_seconds: float = 8.0
    """Of each number of clients, after a warm-up of half of it."""
    test_modules: tuple[str, ...] | None = None
    """Modules of tests; None: those that have tests marked ``gpu``."""
    test_marker: str = "gpu"
    test_words: str = ""
    """Which tests, in pytest's words."""

    @property
    def rehearsal(self) -> bool:
        """Whether this is one, on the CPU."""
        return self.device == "cpu"


REHEARSAL = Plan(
    device="cpu",
    crop=64,
    batches=(1, 2, 4),
    rounds=2,
    turn_seconds=0.02,
    matrix=512,
    copied_bytes=2**24,
    clips=((340, 256), (640, 360)),
    clients=(1, 4),
    load_seconds=1.5,
    # The same promises, with CUDA played by the CPU.
    test_modules=("tests/test_cuda.py",),
    test_marker="not gpu",
    test_words="memory",
)


class Deadline:
    """When a stage must be done.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def over(self) -> None:
        """Have it be now."""
        self._end = 0.0

    @property
    def left(self) -> float:
        """Seconds until then, at least 0."""
        return max(0.0, self._end - time.monotonic())

    def within(self, share: float) -> Deadline:
        """A share of what is left."""
        return Deadline(self.left * share)


@dataclass(frozen=True)
class Places:
    """Where a stage's files are."""

    out: Path
    """The records, which are kept."""
    work: Path
    """Artifacts, and the logs of processes."""

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.work / f"{name.replace(' ', '-').replace(':', '')}.log"


def cores() -> int:
    """Processor cores of this machine."""
    return os.cpu_count() or 1
