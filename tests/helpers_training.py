"""``python -m tests.helpers_training FOLDER [--die STEP] [--die-writing PART]``: trains a tiny network."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from training import whole
from training.loop import Batch, train
from training.optimise import cosine, groups
from training.records import Records

PART, PARTS = 3, 4
"""Steps of a part, and parts of a run."""


class Tiny:
    """A course with all that a real one has: BatchNorm, dropout, a schedule, two batches a step."""

    steps = PART * PARTS
    clip_norm = 1.0
    finished = False

    def __init__(self, folder: Path, die: int | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = _Net()
        parameters = groups(self.model.parameters(), 0.1)
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(parameters)
        self.rows: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._records = Records(folder)
        self._die = die

    def prepare(self, step: int) -> None:
        if step == self._die:
            os.kill(os.getpid(), signal.SIGKILL)
        self.model.train()

    def batches(self, step: int) -> Sequence[Batch]:
        rng = np.random.default_rng([1, step])
        clips = torch.from_numpy(rng.normal(size=(2, 4, 3, 2, 6, 6)).astype(np.float32))
        return [Batch([part], (part.mean((1, 2, 3, 4)) > 0).long()) for part in clips]

    def rate(self, step: int) -> float:
        return 1e-2 * cosine(step, self.steps, 2)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels) / 2

    def stepped(self, step: int, loss: float, right: float) -> None:  # noqa: ARG002
        self._losses.append(loss)

    def is_end(self, step: int) -> bool:
        return step % PART == 0

    def ended(self, step: int) -> None:
        if step:
            self.rows.append({"part": step / PART, "loss": sum(self._losses)})
            self._records.write(self.rows)
        self._losses = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()
        )
        self.last = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))

    def forward(self, pathways: list[Tensor]) -> Tensor:
        logits: Tensor = self.last(self.layers(pathways[0]))
        return logits


def run(folder: Path, die: int | None = None) -> Tiny:
    """Train, or go on; the run is kept in ``run.pt``, its log is beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    course = Tiny(folder, die)
    train(fabric, course, folder / "run.pt", seed=5)
    return course


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die", type=int)
    parser.add_argument("--die-writing", type=int)
    given = parser.parse_args()
    if given.die_writing is not None:
        left, synced = [given.die_writing], os.fsync

        def die(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.truncate(descriptor, 100)
                os.kill(os.getpid(), signal.SIGKILL)
            synced(descriptor)

        whole.os.fsync = die  # type: ignore[attr-defined]
    run(given.folder, given.die)


if __name__ == "__main__":
    main()
