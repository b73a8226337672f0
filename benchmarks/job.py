"""The whole job on one machine: a file in, labels out. The tutorial's loop against ours, in-process and served.

The tutorial's loop is pytorchvideo's EncodedVideo and transforms, then the eager model. All candidates get the
same model (a full-size SlowFast R50, random weights), the device that the archive is for, and the same files.
They take turns, and each is started anew for each turn: it has the machine to itself, with the settings that it
has in use.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from actionrec.manifest import Manifest
from actionrec.model.host import has_fast, keep_freed_memory
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest

from benchmarks.apart import answer, apart
from benchmarks.archives import R50, archive, unpacked
from benchmarks.load import Subject, Tally, load, process, raw, torchserve
from benchmarks.measure import report
from benchmarks.model import random_net
from benchmarks.videos import SIZES, video
from deploy.launch import BRIEF_SPIN
from export import zoo
from export.zoo import ZooModel
from testing.reference import reference_pathways

LAUNCHES = 3
CLIPS = 4
"""Clips of each size in each turn, one after the other."""
TUTORIAL, CALLED, SERVED = "tutorial", "in-process", "served"
SERVED_BF16 = "served, bf16"
"""Measured where the processor has instructions for it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", choices=(TUTORIAL, CALLED), help=argparse.SUPPRESS)
    parser.add_argument("--archive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        device = device_of(options.archive)
        answer(
            tutorial(device, zoo.get(R50)) if options.child == TUTORIAL else _called(options.archive, device)
        )
    else:
        _compare()


def _compare() -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = Path(folder)
        called = unpacked(archive(R50, stores / "auto"))
        candidates: dict[str, Callable[[], AbstractContextManager[Subject]]] = {
            TUTORIAL: partial(_child, TUTORIAL, called),
            CALLED: partial(_child, CALLED, called, BRIEF_SPIN),
            SERVED: partial(_served, SERVED, stores / "auto"),
        }
        if has_fast("bf16", device_of(called)):
            archive(R50, stores / "bf16", "bf16")
            candidates[SERVED_BF16] = partial(_served, SERVED_BF16, stores / "bf16")
        tallies = {f"{width}x{height}": Tally() for width, height in SIZES}
        for _ in range(LAUNCHES):
            for launch in candidates.values():
                with launch() as subject:
                    for size, tally in zip(SIZES, tallies.values(), strict=True):
                        load(subject, video(*size), 1, 1)  # not counted: allocates memory and sets up scalers
                        tally.turn(subject, video(*size), 1, CLIPS)
    rows: list[dict[str, Any]] = []
    for clip, tally in tallies.items():
        taken = {row["what"]: row["p50 ms"] for row in tally.rows()}
        gains = {f"{name}, x tutorial": taken[TUTORIAL] / ms for name, ms in taken.items() if name != TUTORIAL}
        rows.append({"clip": clip, **{f"{name} ms": ms for name, ms in taken.items()}, **gains})
    report("job", "A file in, labels out: the tutorial's loop and ours", rows, {"launches": LAUNCHES})


@contextmanager
def _child(name: str, folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[Subject]:
    arguments = "--archive", str(folder), "--child", name
    with apart("benchmarks.job", *arguments, variables=variables) as child:
        yield process(name, child)


@contextmanager
def _served(name: str, store: Path) -> Iterator[Subject]:
    with torchserve(store) as state:
        yield Subject(name, raw(state.predict_url()))


def device_of(folder: Path) -> str:
    """What an unpacked archive is for: ``cpu`` or ``cuda``."""
    return Manifest.load(folder).artifacts[0].device


def tutorial(device: str, model: ZooModel) -> Callable[[bytes], object]:
    """The tutorial's loop, called with a video: its frames to the device, and the best labels back."""
    spec, net = model.spec, random_net(model).to(device)

    @torch.inference_mode()
    def classify(data: bytes) -> object:
        pathways = reference_pathways(data, spec)
        logits: torch.Tensor = net([pathway.to(device)[None] for pathway in pathways])
        return logits.softmax(dim=1).topk(5).indices.tolist()

    return classify


def _called(folder: Path, device: str) -> Callable[[bytes], object]:
    if device == "cpu":  # as a worker does
        keep_freed_memory()
    classifier = Classifier.load(folder, device)
    return partial(_labels, classifier)


def _labels(classifier: Classifier, data: bytes) -> object:
    (answer,) = classifier.classify([ClipRequest(data)])
    if isinstance(answer, Exception):
        raise answer
    return classifier.reply(answer, 5)


if __name__ == "__main__":
    main()
