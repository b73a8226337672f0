"""Trains `motion` from nothing to `motion.pth`, in one run that can be resumed."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from motion.model import build_motion
from motion.samples import Sample, Studio, batch, pathways, rendered

log = logging.getLogger(__name__)

PAIRS = 16
"""Clips in a batch; each has a twin that runs backwards."""
REMEMBERED = 768
"""Clips that are kept to be used again."""
HARDEST = 0.8
"""Highest difficulty in training. Harder scenes hide their motion from a person too, and
learning them costs accuracy on all others."""
SMOOTHING = 0.05
VALIDATE_EVERY = 200
"""Steps between two validations."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the run."""

    side: int
    """Edge of the frames, in pixels."""
    steps: int
    fresh: int
    """New clips among the `PAIRS` of a batch; the others are used again, with other turns and colours.
    Repetition gets the network off the plateau at chance, but overfits soon after."""
    filmed_share: float
    """Share of the new samples that went through a codec."""
    peak: float | None = None
    """Learning rate at the start, which falls to nothing; None: the fall of the stage before goes on."""


STAGES = (
    Stage(64, 1800, 6, 0.0, 2e-3),
    Stage(64, 1100, PAIRS, 0.05),
    Stage(96, 500, PAIRS, 0.1),
    Stage(96, 250, PAIRS, 0.3),
    Stage(96, 1850, PAIRS, 0.25, 1e-3),
    Stage(96, 2000, PAIRS, 0.25, 1e-3),
    Stage(128, 1300, PAIRS, 0.25, 8e-4),
)
"""Small frames come first: there the plateau at chance is left sooner, at less than half the cost of a step.
The largest come last: a turn is seen better in more pixels."""


@dataclass(slots=True)
class Progress:
    """The state of training besides the weights."""

    step: int = 0
    difficulty: float = 0.0
    accuracy: float = 0.125
    """Running mean of the accuracy on training batches, 0 to 1."""
    seconds: float = 0.0
    fresh_clips: int = 0


@dataclass(slots=True)
class Run:
    """The network, its average and its optimiser."""

    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def fresh(cls, seed: int) -> Run:
        """A run from the beginning."""
        torch.manual_seed(seed)
        model, average = _sized(64), _sized(64)
        average.load_state_dict(model.state_dict())
        decayed = [p for p in model.parameters() if p.ndim > 1]
        plain = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}]
        return cls(model, average, torch.optim.AdamW(groups))

    def save(self, path: Path) -> None:
        """Write everything that `load` needs."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": {name: getattr(self.progress, name) for name in Progress.__slots__},
        }
        _replace(path, state)

    def load(self, path: Path) -> None:
        """Continue from what `save` wrote."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])

    def resize(self, side: int) -> None:
        """Give both networks the head for frames of `side` pixels."""
        for model in (self.model, self.average):
            for mine, new in zip(model.modules(), build_motion(side).modules(), strict=True):
                if isinstance(mine, nn.AvgPool3d) and isinstance(new, nn.AvgPool3d):
                    mine.kernel_size = new.kernel_size


def train(
    out: Path, work: Path, seed: int = 0, stages: Sequence[Stage] = STAGES, footage: Path | None = None
) -> None:
    """Train the network and write its weights.

    Args:
        out: file for the weights, a state_dict in float16.
        work: folder of the checkpoint; an interrupted run continues from there.
        footage: folder of real videos, for some of the backgrounds; None: generated ones only.
    """
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "checkpoint.pth"
    run = Run.fresh(seed)
    if checkpoint.exists():
        run.load(checkpoint)
        log.info("going on from step %d", run.progress.step)
    begun = 0
    for number, stage in enumerate(stages):
        begun += stage.steps
        if run.progress.step < begun:
            _stage(run, stage, begun, stages, seed * 100 + number, checkpoint, out, footage)
    export(run.average, out)
    log.info(
        "done: %d steps, %d clips drawn, %.0f minutes",
        run.progress.step,
        run.progress.fresh_clips,
        run.progress.seconds / 60,
    )


def export(model: nn.Module, out: Path) -> None:
    """Write the weights as a plain state_dict. float16 halves the file and changes no label."""
    state = {name: v.half() if v.is_floating_point() else v for name, v in model.state_dict().items()}
    _replace(out, state)


def _stage(
    run: Run,
    stage: Stage,
    until: int,
    stages: Sequence[Stage],
    seed: int,
    checkpoint: Path,
    out: Path,
    footage: Path | None,
) -> None:
    progress, total = run.progress, sum(stage.steps for stage in stages)
    run.resize(stage.side)
    rng = np.random.default_rng([seed, progress.step])
    fixed = np.random.default_rng(7_000_000)
    validation = [rendered(fixed, stage.side, HARDEST) for _ in range(128)]
    drawn = seed * 10_000 + progress.step
    studio = Studio(drawn, stage.side, stage.filmed_share, progress.difficulty, footage)
    memory: deque[Sample] = deque(studio.take(4 * PAIRS), maxlen=REMEMBERED)
    try:
        while progress.step < until:
            began = time.monotonic()
            fresh = studio.take(stage.fresh)
            again = [memory[i] for i in rng.integers(len(memory), size=PAIRS - stage.fresh)]
            memory.extend(fresh)
            frames, labels = batch(rng, fresh + again)
            loss, accuracy = _step(run, frames, labels, _rate(progress.step, stages))
            progress.step += 1
            progress.fresh_clips += stage.fresh
            progress.accuracy += 0.03 * (accuracy - progress.accuracy)
            if progress.accuracy > 0.75:
                progress.difficulty += 0.004
            # The last half has full variety, whatever the accuracy.
            progress.difficulty = min(HARDEST, max(progress.difficulty, 2 * progress.step / total - 0.2))
            studio.set_difficulty(progress.difficulty)
            progress.seconds += time.monotonic() - began
            if progress.step % 20 == 0:
                log.info(
                    "step %d side %d loss %.3f accuracy %.3f difficulty %.2f %.0f s",
                    progress.step,
                    stage.side,
                    loss,
                    progress.accuracy,
                    progress.difficulty,
                    progress.seconds,
                )
            if progress.step % VALIDATE_EVERY == 0 or progress.step == until:
                log.info("step %d validation %.3f", progress.step, right(run.average, validation))
                run.save(checkpoint)
                export(run.average, checkpoint.with_name(out.name))
    finally:
        studio.close()


def _step(run: Run, frames: NDArray[np.uint8], labels: NDArray[np.int64], rate: float) -> tuple[float, float]:
    """Train on one batch; returns its loss and accuracy."""
    step = run.progress.step
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    run.model.train()
    target = torch.from_numpy(labels)
    logits = run.model(pathways(frames))
    loss = nn.functional.cross_entropy(logits, target, label_smoothing=SMOOTHING)
    run.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.model.parameters(), 2.0)
    run.optimiser.step()
    keep = min(0.99, (step + 1) / (step + 10))
    with torch.no_grad():
        for mean, value in zip(run.average.state_dict().values(), run.model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)
    return float(loss.detach()), float((logits.argmax(1) == target).float().mean())


def _rate(step: int, stages: Sequence[Stage]) -> float:
    """The learning rate of a step: each warm-up is followed by half a cosine."""
    falls: list[tuple[float, int]] = []
    for stage in stages:
        if stage.peak is None:
            peak, steps = falls.pop()
            falls.append((peak, steps + stage.steps))
        else:
            falls.append((stage.peak, stage.steps))
    begun = 0
    for peak, steps in falls:
        done = (step - begun) / steps
        if done < 1:
            warm = min(1.0, (step - begun + 1) / 100)
            return max(peak * warm * 0.5 * (1 + math.cos(math.pi * done)), peak / 200)
        begun += steps
    raise ValueError(f"step {step} is beyond the last stage")


@torch.inference_mode()
def right(model: nn.Module, samples: list[Sample]) -> float:
    """The share of samples with the right label, 0 to 1."""
    model.eval()
    hits = 0
    for start in range(0, len(samples), 16):
        part = samples[start : start + 16]
        logits = model(pathways(np.stack([sample.frames for sample in part])))
        hits += int((logits.argmax(1) == torch.tensor([sample.label for sample in part])).sum())
    return hits / len(samples)


def _sized(side: int) -> nn.Module:
    return build_motion(side).to(memory_format=torch.channels_last_3d)


def _replace(path: Path, state: dict[str, Any]) -> None:
    """Save completely or not at all."""
    partial = path.with_name(path.name + ".part")
    torch.save(state, partial)
    partial.replace(path)
