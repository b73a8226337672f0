"""The trainings of a run: one for each fold, which measure, and one on all videos, which makes the archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from training.whole import save

from ..data import Listing
from ..embed import Embedded
from ..fit import Ints, Samples, fold_count, folds, layer_of
from ..head import samples_of
from ..progress import Teller
from .choose import Chosen, choose
from .clips import Clips
from .course import Job, Listener
from .network import Network, State, embedder, outputs, put_layer
from .options import Options
from .run import result_of


@dataclass(frozen=True)
class Trainings:
    """What all trainings share."""

    network: Network
    net: nn.Module
    """With the base's weights, on the CPU; its head is each training's in turn."""
    listing: Listing
    seen: Clips
    """Windows to train on."""
    served: Clips
    """Windows to measure with."""
    folder: Path
    """For the logs, and for what a killed run goes on from."""
    device: str
    options: Options
    tell: Teller

    def samples(self) -> Samples:
        """All windows that are served, with the base network's embeddings as features."""
        examples, path = self.listing.examples, self.folder / "embeddings.pt"
        windows = [(one, number) for one in examples for number in range(self.served.count(one))]
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            device = torch.device(self.device)
            frames = (self.served.frames(*window) for window in windows)
            rows = []
            with self.tell.counted("embedded", "looking at the videos", len(windows)) as step:
                net = embedder(self.net, self.network.spec).to(device)
                for row in outputs(net, self.network.spec, frames, device):
                    rows.append(row)
                    step()
            self.net.to("cpu")
            save(path, {"embeddings": torch.stack(rows)})
        features = torch.load(path, weights_only=True)["embeddings"].numpy()
        ends = np.cumsum([self.served.count(one) for one in examples])[:-1]
        found = {
            one: Embedded(some, np.zeros((len(some), 2)))
            for one, some in zip(examples, np.split(features, ends), strict=True)
        }
        return samples_of(examples, found, self.listing.labels)

    def by_folds(self, samples: Samples) -> Chosen:
        """Train for each fold, without its videos; returns what is said of them, and how long is best."""
        count = min(self.options.folds, fold_count(samples))
        sides = list(folds(samples, count))
        results = [
            self._result(self._job(f"fold {number} of {count}", f"fold-{number}", samples, train, test))
            for number, (train, test) in enumerate(sides, 1)
        ]
        logits = [result["logits"].double().numpy() for result in results]
        chosen = choose(logits, [test for _, test in sides], samples)
        self.tell.say("chosen", f"{chosen.of_all} epochs suit the folds best", epochs=chosen.of_all)
        return chosen

    def on_all(self, samples: Samples, epochs: int) -> State:
        """Train on all videos; returns the weights."""
        everything = np.arange(len(samples.classes))
        job = self._job("all videos", "all", samples, everything, everything[:0], epochs)
        state: State = self._result(job)["model"]
        return state

    def _job(
        self, title: str, name: str, samples: Samples, train: Ints, test: Ints, epochs: int | None = None
    ) -> Job:
        """A training on some of the windows, measured with others."""
        put_layer(self.network.head(self.net), layer_of(samples.rows(train)))
        learned, first = np.unique(samples.examples[train], return_index=True)
        held_out = np.unique(samples.examples[test])
        return Job(
            title=title,
            folder=self.folder / name,
            network=self.network,
            start={name: value.clone() for name, value in self.net.state_dict().items()},
            examples=tuple(self.listing.examples[number] for number in learned),
            classes=samples.classes[train][first],
            seen=self.seen,
            held_out=tuple(self.listing.examples[number] for number in held_out),
            held_out_samples=samples.rows(test) if len(test) else None,
            served=self.served,
            epochs=self.options.epochs if epochs is None else epochs,
            options=self.options,
            device=self.device,
        )

    def _result(self, job: Job) -> Mapping[str, Any]:
        steps = job.epochs * job.epoch_steps
        with self.tell.counted("trained", job.title, steps) as step:
            return result_of(job, _listener(job.title, self.tell, step))


def _listener(title: str, tell: Teller, step: Callable[[], None]) -> Listener:
    def listen(event: str, value: Any) -> None:  # noqa: ANN401
        if event == "steps":
            for _ in range(value):
                step()
            return
        row: Mapping[str, float] = value
        text = f"{title}, epoch {row['epoch']:.0f}"
        if "loss" in row:
            text += f": loss {row['loss']:.3f}, {row['right']:.0%} right"
        if "held_out_loss" in row:
            text += f"; held out: loss {row['held_out_loss']:.3f}, {row['held_out_right']:.0%} right"
        tell.say("epoch", text, training=title, **row)

    return listen
