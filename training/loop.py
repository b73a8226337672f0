"""The one loop by which networks learn here.

    prepare, batches -> rate, loss, gradients -> step, step, ... -> end of a part: measure, keep -> next part

All that is random in a step follows from the run's seed and the step's number. So a run that was killed goes
on from what it kept last with the same batches and the same dropout, and ends with the same weights: to the
last bit on a CPU with the same threads, and to rounding on GPUs, whose sums have no fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from .optimise import set_rate
from .whole import save


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips that go through the network together."""

    pathways: list[Tensor]
    """float32 [B, 3, t, H, W], one a pathway."""
    labels: Tensor
    """int64 [B]"""


class Course(Protocol):
    """What is learned, from what, and when it is measured.

    A run of several processes has one in each; they differ in nothing but the clips of their batches.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    steps: int
    """Of the whole run."""
    clip_norm: float
    """Longest gradient that a step takes; longer ones are shortened."""

    @property
    def finished(self) -> bool:
        """Whether the run ends before its last step."""

    def prepare(self, step: int) -> None:
        """Called before each step, from 0: puts the network into training mode."""

    def batches(self, step: int) -> Sequence[Batch]:
        """This process's clips of a step; with several batches their gradients are added up."""

    def rate(self, step: int) -> float:
        """The learning rate of a step."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits [B, classes] of one of the batches -> its part of the loss; a step's add up."""

    def stepped(self, step: int, loss: float, right: float) -> None:
        """Called after each step.

        Args:
            step: steps that were taken.
            loss: of this process's clips.
            right: share of them with the right answer, 0 to 1.
        """

    def is_end(self, step: int) -> bool:
        """Whether a part ends after so many steps."""

    def ended(self, step: int) -> None:
        """Called before the first step, and at each end of a part before the run is kept: measures."""

    def state_dict(self) -> dict[str, Any]:
        """What it knows besides weights and optimiser: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""


class DivergedError(RuntimeError):
    """The loss is no number any more."""


def train(fabric: Fabric, course: Course, kept: Path, seed: int) -> None:
    """Run a course, from where an earlier process left it.

    Args:
        fabric: launched.
        course: what is learned; its model is changed.
        kept: file that the run is kept in.
        seed: of all that is random.

    Raises:
        DivergedError: the loss is no number.
        OSError: the disk is full.
    """
    model, optimiser = fabric.setup(course.model, course.optimiser)
    step = _resume(fabric, course, kept)
    if step is None:
        step = 0
        course.ended(step)
        _keep(fabric, course, kept, step)
    while step < course.steps and not course.finished:
        torch.manual_seed(_seed(seed, step, fabric.global_rank))
        loss, right = _step(fabric, model, optimiser, course, step)
        step += 1
        course.stepped(step, loss, right)
        if course.is_end(step):
            course.ended(step)
            _keep(fabric, course, kept, step)


def _step(
    fabric: Fabric, model: nn.Module, optimiser: torch.optim.Optimizer, course: Course, step: int
) -> tuple[float, float]:
    """Take one step; returns its loss and the share of right answers."""
    course.prepare(step)
    set_rate(course.optimiser, course.rate(step))
    batches = course.batches(step)
    total, hits, count = 0.0, 0, 0
    for number, batch in enumerate(batches, 1):
        labels = fabric.to_device(batch.labels)
        with fabric.no_backward_sync(model, enabled=number < len(batches)):  # type: ignore[arg-type]
            logits = model(fabric.to_device(batch.pathways))
            loss = course.loss(logits, labels)
            fabric.backward(loss)
        total += float(loss.detach())
        hits += int((logits.argmax(1) == labels).sum())
        count += len(labels)
    if not np.isfinite(total):
        raise DivergedError(f"the loss of step {step + 1} is {total}")
    # With half precision some gradients are infinite, and the scaler leaves out their step.
    fabric.clip_gradients(model, optimiser, max_norm=course.clip_norm, error_if_nonfinite=False)
    optimiser.step()
    optimiser.zero_grad()
    return total, hits / count


def _seed(seed: int, step: int, rank: int) -> int:
    """Of the numbers that torch draws in a step."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _keep(fabric: Fabric, course: Course, kept: Path, step: int) -> None:
    if fabric.is_global_zero:
        state = {
            "step": step,
            "model": course.model.state_dict(),
            "optimiser": course.optimiser.state_dict(),
            "precision": fabric.strategy.precision.state_dict(),
            "course": course.state_dict(),
        }
        save(kept, state)
    fabric.barrier()


def _resume(fabric: Fabric, course: Course, kept: Path) -> int | None:
    """Put a kept run's state into a course; returns its steps, or None where nothing was kept."""
    if not kept.is_file():
        return None
    state = torch.load(kept, weights_only=True, map_location="cpu")
    course.model.load_state_dict(state["model"])
    course.optimiser.load_state_dict(state["optimiser"])
    fabric.strategy.precision.load_state_dict(state["precision"])
    course.load_state_dict(state["course"])
    return int(state["step"])
