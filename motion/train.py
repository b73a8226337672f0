"""Trains `motion` from nothing to `motion.pth`, in one run that can be resumed."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from motion.model import build_motion
from motion.samples import Sample, Studio, batch, pathways, rendered
from training.loop import Batch
from training.loop import train as run
from training.optimise import cosine, groups
from training.whole import save

log = logging.getLogger(__name__)

PAIRS = 16
"""Clips in a batch; each has a twin that runs backwards."""
REMEMBERED = 768
"""Clips that are kept to be used again."""
HARDEST = 0.8
"""Highest difficulty in training. Harder scenes hide their motion from a person too, and
learning them costs accuracy on all others."""
SMOOTHING = 0.05
DECAY = 0.03
WARM_UP = 100
"""Steps of the warm-up before each fall of the learning rate."""
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

    difficulty: float = 0.0
    accuracy: float = 0.125
    """Running mean of the accuracy on training batches, 0 to 1."""
    seconds: float = 0.0
    fresh_clips: int = 0


class Lessons:
    """`motion`'s course for `training.loop`.

    Args:
        seed: of the first weights, and of all scenes.
        stages: the parts of the run.
        footage: folder of real videos, for some of the backgrounds; None: generated ones only.
        draft: file for the average's weights at each validation.
    """

    clip_norm = 2.0
    finished = False

    def __init__(self, seed: int, stages: Sequence[Stage], footage: Path | None, draft: Path) -> None:
        torch.manual_seed(seed)
        self.model, self.average = _sized(stages[0].side), _sized(stages[0].side)
        self.average.load_state_dict(self.model.state_dict())
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(groups(self.model.parameters(), DECAY))
        self.progress = Progress()
        self.steps = sum(stage.steps for stage in stages)
        self._seed, self._stages, self._footage, self._draft = seed, stages, footage, draft
        self._part: _Part | None = None
        self._began = 0.0

    def prepare(self, step: int) -> None:
        """See `training.loop.Course`."""
        number, _ = _place(step, self._stages)
        if self._part is None or self._part.number != number:
            self.close()
            stage, seed = self._stages[number], self._seed * 100 + number
            self._resize(stage.side)
            self._part = _Part(number, stage, seed, step, self.progress.difficulty, self._footage)
        self._began = time.monotonic()
        self.model.train()

    def batches(self, step: int) -> Sequence[Batch]:  # noqa: ARG002
        """See `training.loop.Course`."""
        assert self._part is not None  # `prepare` made it
        frames, labels = batch(self._part.rng, self._part.samples())
        return [Batch(pathways(frames), torch.from_numpy(labels))]

    def rate(self, step: int) -> float:
        """See `training.loop.Course`."""
        return _rate(step, self._stages)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `training.loop.Course`."""
        return nn.functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)

    def stepped(self, step: int, loss: float, right: float) -> None:
        """See `training.loop.Course`."""
        assert self._part is not None
        self._average(step)
        progress = self.progress
        progress.fresh_clips += self._part.stage.fresh
        progress.accuracy += 0.03 * (right - progress.accuracy)
        if progress.accuracy > 0.75:
            progress.difficulty += 0.004
        # The last half has full variety, whatever the accuracy.
        progress.difficulty = min(HARDEST, max(progress.difficulty, 2 * step / self.steps - 0.2))
        self._part.studio.set_difficulty(progress.difficulty)
        progress.seconds += time.monotonic() - self._began
        if step % 20 == 0:
            log.info(
                "step %d side %d loss %.3f accuracy %.3f difficulty %.2f %.0f s",
                step,
                self._part.stage.side,
                loss,
                progress.accuracy,
                progress.difficulty,
                progress.seconds,
            )

    def is_end(self, step: int) -> bool:
        """See `training.loop.Course`."""
        return step % VALIDATE_EVERY == 0 or step == _place(step - 1, self._stages)[1]

    def ended(self, step: int) -> None:
        """See `training.loop.Course`."""
        if step and self._part is not None:
            log.info("step %d validation %.3f", step, right(self.average, self._part.validation))
            export(self.average, self._draft)

    def state_dict(self) -> dict[str, Any]:
        """See `training.loop.Course`."""
        return {"average": self.average.state_dict(), "progress": asdict(self.progress)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `training.loop.Course`."""
        self.average.load_state_dict(state["average"])
        self.progress = Progress(**state["progress"])

    def close(self) -> None:
        """Stop drawing."""
        if self._part is not None:
            self._part.studio.close()
            self._part = None

    @torch.no_grad()
    def _average(self, step: int) -> None:
        keep = min(0.99, step / (step + 9))
        values = zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True)
        for mean, value in values:
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def _resize(self, side: int) -> None:
        """Give both networks the head for frames of `side` pixels."""
        for model in (self.model, self.average):
            for mine, new in zip(model.modules(), build_motion(side).modules(), strict=True):
                if isinstance(mine, nn.AvgPool3d) and isinstance(new, nn.AvgPool3d):
                    mine.kernel_size = new.kernel_size


class _Part:
    """What a stage, from one of its steps on, learns from and is measured with."""

    def __init__(
        self, number: int, stage: Stage, seed: int, step: int, difficulty: float, footage: Path | None
    ) -> None:
        self.number, self.stage = number, stage
        self.rng = np.random.default_rng([seed, step])
        fixed = np.random.default_rng(7_000_000)
        self.validation = [rendered(fixed, stage.side, HARDEST) for _ in range(128)]
        self.studio = Studio(seed * 10_000 + step, stage.side, stage.filmed_share, difficulty, footage)
        self._memory: deque[Sample] = deque(self.studio.take(4 * PAIRS), maxlen=REMEMBERED)

    def samples(self) -> list[Sample]:
        """The next `PAIRS`: new ones, and some that were used before."""
        fresh = self.studio.take(self.stage.fresh)
        chosen = self.rng.integers(len(self._memory), size=PAIRS - self.stage.fresh)
        again = [self._memory[i] for i in chosen]
        self._memory.extend(fresh)
        return fresh + again


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
    fabric = Fabric(accelerator="cpu", devices=1)
    with contextlib.closing(Lessons(seed, stages, footage, work / out.name)) as lessons:
        fabric.launch()
        run(fabric, lessons, work / "checkpoint.pth", seed)
    export(lessons.average, out)
    progress = lessons.progress
    log.info(
        "done: %d steps, %d clips drawn, %.0f minutes",
        lessons.steps,
        progress.fresh_clips,
        progress.seconds / 60,
    )


def export(model: nn.Module, out: Path) -> None:
    """Write the weights as a plain state_dict. float16 halves the file and changes no label."""
    save(out, {name: v.half() if v.is_floating_point() else v for name, v in model.state_dict().items()})


def _place(step: int, stages: Sequence[Stage]) -> tuple[int, int]:
    """Number of the stage that a step is in, and the step after its last."""
    end = 0
    for number, stage in enumerate(stages):
        end += stage.steps
        if step < end:
            return number, end
    raise ValueError(f"step {step} is beyond the last stage")


def _rate(step: int, stages: Sequence[Stage]) -> float:
    """The learning rate of a step: each warm-up is followed by half a cosine, which may last several stages."""
    falls: list[tuple[float, int]] = []
    for stage in stages:
        if stage.peak is None:
            peak, steps = falls.pop()
            falls.append((peak, steps + stage.steps))
        else:
            falls.append((stage.peak, stage.steps))
    begun = 0
    for peak, steps in falls:
        if step < begun + steps:
            return peak * cosine(step - begun, steps, WARM_UP)
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
