"""METHOD=finetune, in order: decode, train by folds, choose how long, train on all videos, export."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from actionrec.manifest import Artifact
from actionrec.reply import Scores
from torch import nn

from ... import artifacts
from ...calibration import MOST
from ...errors import ExportError
from ..cache import key_of
from ..data import Example, Listing
from ..embed import WINDOWS
from ..fit import Floats, Samples, calibrated
from ..measure import measure
from ..method import Outcome, Task
from . import network as networks
from .augment import larger
from .choose import Chosen
from .clips import Clips, Room
from .exporting import Exporting, exported
from .network import Network, State
from .trainings import Trainings

TIMES = 4
"""Windows of an example, spread over it; training takes one of them each time."""
_CHECKED = 4
"""Examples whose scores the finished archive must give."""
_FORMAT = 1
"""Of a run's folder; another number finds none that was kept before."""
_HOW = (
    "cross-validation in {folds} folds, with no video on both sides of one; how long a fold's network trains "
    "is chosen by the videos of the other folds. An answer is that of a plain request: the first window of the "
    "video or span"
)
_SEEN_BEFORE = (
    ". The base was fine-tuned itself: where it has learned from some of these videos, the figure is too good"
)


def learn(task: Task) -> Outcome:
    """Fine-tune the base archive's network; see `method`.

    Raises:
        ExportError: the archive's network cannot learn, the videos that can be read are too few, or an artifact
            cannot be made.
    """
    order, manifest = task.order, task.manifest
    # All that can be wrong with the order is said before anything slow is begun.
    targets = artifacts.choose_targets(order.runtime, order.precision, order.device, fallback=order.fallback)
    task.options.check(targets[0].device)
    networks.check(manifest)
    work = task.options.work / task.name
    clips = work / "clips"
    with (
        _alone(work),
        Clips(clips / "seen", larger(manifest.spec), TIMES, manifest.limits, exact=False) as seen,
        Clips(clips / "served", manifest.spec, WINDOWS, manifest.limits, exact=True) as served,
    ):
        outcome = _learned(task, seen, served, targets)
        shutil.rmtree(clips)
    return outcome


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Keep other runs out of a folder."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(
                f"another run is fine-tuning in {work}", "Wait for its end, or choose another NAME."
            ) from error
        yield


def _learned(task: Task, seen: Clips, served: Clips, targets: tuple[artifacts.Target, ...]) -> Outcome:
    options, manifest, tell = task.options, task.manifest, task.tell
    device = targets[0].device
    listing = _decoded(task, seen, served)
    network, net = networks.load(manifest, task.directory, len(listing.labels))
    deciding: dict[str, Any] = {
        "format": _FORMAT,
        "trunk": networks.digest({name: one for name, one in net.state_dict().items() if ".proj." not in name}),
        "spec": manifest.spec.to_dict(),
        "data": listing.sha256,
        "device": device,
        **options.deciding(),
    }
    folder = options.work / task.name / key_of(deciding)[:12]
    tell.say("log", f"logs are in {folder}", folder=str(folder))
    trainings = Trainings(network, net, listing, seen, served, folder, device, options, tell)
    samples = trainings.samples()
    held_out = trainings.by_folds(samples)
    temperature, _ = calibrated(held_out.logits, samples)
    state = _cooled(trainings.on_all(samples, held_out.of_all), network, temperature)
    net = network.build(state)
    artifacts_made = _exported(task, network, state, targets, listing, served)
    expected = tuple((one, _scores(net, network, served, one)) for one in _spread(listing.examples, _CHECKED))
    before = _right(held_out.before, samples)
    measured = measure(samples, held_out.logits / temperature, None, listing.labels)
    return Outcome(
        listing=listing,
        artifacts=artifacts_made,
        weights=networks.digest(state),
        measured=replace(
            measured, words=f"{measured.words} Of a new head alone (METHOD=head) {before:.0%} are right."
        ),
        how=_HOW.format(folds=len(held_out.of_folds))
        + (_SEEN_BEFORE if manifest.learned.get("method") == "finetune" else ""),
        settings=_settings(task, held_out, net, device, temperature, before),
        expected=expected,
    )


def _settings(
    task: Task, held_out: Chosen, net: nn.Module, device: str, temperature: float, before: float
) -> Mapping[str, Any]:
    options, stages = task.options, len(networks.stages(net))
    return {
        "stages": f"{min(options.stages, stages) or stages} of {stages}",
        "epochs": f"{held_out.of_all} of {options.epochs}",
        "rate": options.rate,
        "batch": options.batch,
        "mirror": "on" if options.mirror else "off",
        "batch_norm": options.batch_norm,
        "train_precision": options.lightning_precision(device),
        "seed": options.seed,
        "temperature": round(temperature, 4),
        "head_accuracy": round(before, 4),
    }


def _decoded(task: Task, seen: Clips, served: Clips) -> Listing:
    """Decode all windows; returns the list without what cannot be read."""
    listing, tell = task.listing, task.tell
    room = Room(task.options.cache_gb * 1e9)
    unreadable: dict[Path, str] = {}
    try:
        with tell.counted("decoded", "decoding the videos", 2 * len(listing.examples)) as step:
            for clips in (served, seen):
                unreadable |= clips.prepare(listing.examples, room, step)
    except OSError as error:
        raise ExportError(
            f"decoded clips cannot be kept in {task.options.work}: {error.strerror or error}",
            "Free some space there, or give less: CACHE_GB=2.",
        ) from error
    known = len(listing.left_out)
    listing = listing.without({one: unreadable[one.path] for one in listing.examples if one.path in unreadable})
    for one in listing.left_out[known:]:
        tell.say("left_out", f"left out: {one.path}: {one.reason}", path=str(one.path), reason=one.reason)
    listing.check()
    return listing


def _cooled(state: State, network: Network, temperature: float) -> State:
    """Weights whose last layer gives logits that are divided by the temperature."""
    net = network.build(state)
    with torch.no_grad():
        for parameter in network.head(net).parameters():
            parameter.div_(temperature)
    return net.state_dict()


def _exported(
    task: Task,
    network: Network,
    state: State,
    targets: tuple[artifacts.Target, ...],
    listing: Listing,
    served: Clips,
) -> tuple[Artifact, ...]:
    """The artifacts in the task's directory, in the place of the base's."""
    for artifact in task.manifest.artifacts:
        (task.directory / artifact.file).unlink()
    chosen = _spread(listing.examples, MOST) if targets[0].precision == artifacts.INT8 else []
    shape = (0, network.spec.num_frames, network.spec.crop, network.spec.crop, 3)
    frames = [served.frames(one, 0)[None] for one in chosen]
    made, lacking = exported(
        Exporting(
            network=network,
            state=state,
            manifest=replace(task.manifest, labels=listing.labels, artifacts=()),
            targets=targets,
            directory=task.directory,
            clips=torch.from_numpy(np.concatenate([np.empty(shape, np.int16), *frames])),
            names=tuple(one.path.name for one in chosen),
            strict=task.order.runtime != artifacts.AUTO,
            on_stderr=task.tell.console.stderr,
        )
    )
    if lacking:
        task.tell.say("note", lacking.strip())
    return made


def _scores(net: nn.Module, network: Network, served: Clips, example: Example) -> Scores:
    """A network's scores of an example's windows, float32 [windows, classes]."""
    frames = (served.frames(example, number) for number in range(served.count(example)))
    logits = torch.stack(list(networks.outputs(net, network.spec, frames, torch.device("cpu"))))
    scores: Scores = logits.softmax(1).numpy()
    return scores


def _right(logits: Floats, samples: Samples) -> float:
    """The share of examples whose first window is answered right."""
    _, first = np.unique(samples.examples, return_index=True)
    return float((logits[first].argmax(1) == samples.classes[first]).mean())


def _spread(examples: tuple[Example, ...], most: int) -> list[Example]:
    """Some examples, of different labels where there are."""
    places = np.linspace(0, len(examples) - 1, min(most, len(examples))).astype(int)
    return [examples[place] for place in dict.fromkeys(places.tolist())]
