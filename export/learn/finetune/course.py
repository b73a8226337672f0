"""One training as a course for `training.loop`: the clips of each step, and how well held-out videos fare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from actionrec.model.transform import pack
from actionrec.spec import STEPS_PER_LEVEL
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from training.loop import Batch
from training.optimise import cosine, groups
from training.records import Records

from ..data import Example
from ..fit import Samples, calibrated
from .augment import varied
from .clips import Clips
from .network import Network, State, outputs, stages
from .options import FROZEN, Options

DECAY = 0.05
TRUNK_SHARE = 0.3
"""Learning rate of the trunk, as a share of the new head's: it knows much already."""
SMOOTHING = 0.1
WARM_UP_EPOCHS = 2
PATIENCE = 8
"""Epochs in a row that are clearly worse than the best one, after which a training ends."""
CLEARLY = 0.05
"""So much more log loss is clearly worse: a fold's held-out videos are few, and some epochs are lucky."""
_AHEAD = 2
"""Steps whose clips are made while others are learned."""

Listener = Callable[[str, Any], object]
"""Is told ``steps``, with how many more are done, and ``epoch``, with its row of the log."""


@dataclass(frozen=True)
class Job:
    """All that one training needs; it goes to other processes."""

    title: str
    """For people: ``fold 1 of 5``."""
    folder: Path
    """For the log, and for what a killed run goes on from."""
    network: Network
    start: State
    """Its weights at the beginning."""
    examples: tuple[Example, ...]
    """What is learned from."""
    classes: NDArray[np.int64]
    """int64 [examples]: numbers of their labels."""
    seen: Clips
    """Training windows, as `augment.larger` has them."""
    held_out: tuple[Example, ...]
    """What is measured with; may be none."""
    held_out_samples: Samples | None
    """Labels of their windows; the features play no part."""
    served: Clips
    """Windows as they are served."""
    epochs: int
    """How long to train at most."""
    options: Options
    device: str
    """``cpu`` or ``cuda``."""

    @property
    def epoch_steps(self) -> int:
        """Steps in which each example is seen once."""
        return -(-len(self.examples) // self.options.batch)


class Tuning:
    """See `training.loop.Course`.

    Args:
        job: what is to be done.
        fabric: launched.
        tell: is told what happens; None: this process is not the one that tells.
    """

    clip_norm = 1.0

    def __init__(self, job: Job, fabric: Fabric, tell: Listener | None) -> None:
        self._job, self._fabric, self._tell = job, fabric, tell
        options = job.options
        self.model = job.network.build(job.start)
        self._frozen = _freeze(self.model, options)
        head = list(job.network.head(self.model).parameters())
        trunk = [one for one in self.model.parameters() if all(one is not mine for mine in head)]
        parameters = [*groups(head, DECAY), *groups(trunk, DECAY, TRUNK_SHARE)]
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(parameters)
        self._epoch_steps = job.epoch_steps
        self.steps = job.epochs * self._epoch_steps
        self._weights = torch.tensor(_label_weights(job.classes, job.network.classes))
        self.rows: list[dict[str, float]] = []
        self.logits: list[Tensor] = []
        """float32 [windows, classes] of the held-out windows, from before the first epoch on."""
        self._sums = np.zeros(3)
        self._records = Records(job.folder) if tell else None
        self._threads = ThreadPoolExecutor(2)
        self._coming: dict[int, list[Future[NDArray[np.uint8]]]] = {}

    @property
    def finished(self) -> bool:
        """Whether the held-out videos have been answered clearly worse for a while."""
        losses = [row["held_out_loss"] for row in self.rows if "held_out_loss" in row]
        return len(losses) > PATIENCE and min(losses[-PATIENCE:]) > min(losses) + CLEARLY

    def prepare(self, step: int) -> None:  # noqa: ARG002
        """See `training.loop.Course`."""
        self.model.train()
        for module in self._frozen:
            module.eval()

    def batches(self, step: int) -> Sequence[Batch]:
        """See `training.loop.Course`."""
        numbers = self._numbers(step)
        for ahead in range(step, min(step + 1 + _AHEAD, self.steps)):
            if ahead not in self._coming:
                self._coming[ahead] = [
                    self._threads.submit(self._clip, ahead, slot, number)
                    for slot, number in self._numbers(ahead).items()
                ]
        clips = np.stack([clip.result() for clip in self._coming.pop(step)])
        labels = self._job.classes[list(numbers.values())]
        parts = self._job.options.parts(self._job.device)
        return [
            Batch(self._pathways(some), torch.from_numpy(right))
            for some, right in zip(np.split(clips, parts), np.split(labels, parts), strict=True)
        ]

    def rate(self, step: int) -> float:
        """See `training.loop.Course`."""
        options = self._job.options
        whole, warm_up = (epochs * self._epoch_steps for epochs in (options.epochs, WARM_UP_EPOCHS))
        return options.rate * cosine(step, whole, warm_up)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `training.loop.Course`. The gradients of several processes are averaged, not added."""
        losses = nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=SMOOTHING)
        mean: Tensor = (losses * self._weights.to(losses.device)[labels]).sum() / self._job.options.batch
        return mean * self._fabric.world_size

    def stepped(self, step: int, loss: float, right: float) -> None:  # noqa: ARG002
        """See `training.loop.Course`."""
        self._sums += (loss, right, 1)
        if self._tell:
            self._tell("steps", 1)

    def is_end(self, step: int) -> bool:
        """See `training.loop.Course`."""
        return step % self._epoch_steps == 0

    def ended(self, step: int) -> None:
        """See `training.loop.Course`."""
        row: dict[str, float] = {"epoch": step // self._epoch_steps}
        if step:
            loss, right, count = self._sums.tolist()
            row |= {"rate": self.rate(step - 1), "loss": loss / count, "right": right / count}
            self._sums[:] = 0
        if self._job.held_out_samples is not None:
            row |= self._measured(self._job.held_out_samples)
        self.rows.append(row)
        if self._records:
            self._records.write(self.rows)
        if self._tell:
            self._tell("epoch", row)

    def state_dict(self) -> dict[str, Any]:
        """See `training.loop.Course`."""
        return {"rows": self.rows, "logits": self.logits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `training.loop.Course`."""
        self.rows, self.logits = state["rows"], state["logits"]
        if self._tell:
            self._tell("steps", (len(self.rows) - 1) * self._epoch_steps)

    def close(self) -> None:
        """End its threads and decoding processes."""
        self._threads.shutdown(cancel_futures=True)
        self._job.seen.close()
        self._job.served.close()
        if self._records:
            self._records.close()

    def _numbers(self, step: int) -> dict[int, int]:
        """This process's clips of a step: place among the step's clips -> number of the example.

        Each epoch has every example once, in an order of its own; its last step is filled up from the first.
        """
        epoch, place = divmod(step, self._epoch_steps)
        batch = self._job.options.batch
        order = np.random.default_rng([self._job.options.seed, epoch]).permutation(len(self._job.examples))
        order = np.resize(order, self._epoch_steps * batch)[place * batch : (place + 1) * batch]
        fabric = self._fabric
        return {slot: int(order[slot]) for slot in range(fabric.global_rank, batch, fabric.world_size)}

    def _clip(self, step: int, slot: int, number: int) -> NDArray[np.uint8]:
        """A training clip, uint8 [T, crop, crop, 3]: a window of the example, as it looks this time."""
        job = self._job
        rng = np.random.default_rng([job.options.seed, step, slot])
        example = job.examples[number]
        frames = job.seen.frames(example, int(rng.integers(job.seen.count(example))))
        return varied(rng, frames, job.network.spec, mirror=job.options.mirror)

    def _pathways(self, clips: NDArray[np.uint8]) -> list[Tensor]:
        frames = torch.from_numpy(clips).to(torch.int16) * STEPS_PER_LEVEL
        return pack(frames, self._job.network.spec, self._fabric.device)

    def _measured(self, samples: Samples) -> dict[str, float]:
        """How the held-out windows fare. Each process answers some of them."""
        job, fabric = self._job, self._fabric
        self.model.eval()
        rows = [(one, number) for one in job.held_out for number in range(job.served.count(one))]
        logits = torch.zeros(len(rows), job.network.classes)
        mine = range(fabric.global_rank, len(rows), fabric.world_size)
        frames = (job.served.frames(*rows[row]) for row in mine)
        for row, answer in zip(mine, outputs(self.model, job.network.spec, frames, fabric.device), strict=True):
            logits[row] = answer
        if fabric.world_size > 1:
            logits = fabric.all_reduce(logits.to(fabric.device), reduce_op="sum").cpu()  # type: ignore[union-attr]
        self.logits.append(logits)
        answers = logits.double().numpy()
        _, loss = calibrated(answers, samples)
        _, first = np.unique(samples.examples, return_index=True)
        right = answers[first].argmax(1) == samples.classes[first]
        return {"held_out_loss": loss, "held_out_right": float(right.mean())}


def _freeze(net: nn.Module, options: Options) -> list[nn.Module]:
    """Freeze what does not learn; returns what stays in evaluation mode."""
    frozen: list[nn.Module] = []
    if options.stages:
        frozen += stages(net)[: -options.stages]
    for stage in frozen:
        stage.requires_grad_(False)
    if options.batch_norm == FROZEN:
        frozen += [module for module in net.modules() if isinstance(module, nn.BatchNorm3d)]
    return frozen


def _label_weights(classes: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """What an example counts by its label: all labels count the same, and the mean is 1. float32 [count]."""
    examples = np.bincount(classes, minlength=count)
    return np.asarray(len(classes) / np.maximum(examples, 1) / np.count_nonzero(examples), np.float32)
