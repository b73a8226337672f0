"""The whole job on one machine: a file in, labels out. The tutorial's loop against ours, called and served.

The tutorial's loop is pytorchvideo's EncodedVideo and transforms, then the eager model. All get the same model
(a full-size SlowFast R50, random weights) and the same files. Each has a process of its own, as it has in use,
which is stopped while another has its turn.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from actionrec.host import has_fast, keep_freed_memory
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest

from benchmarks.apart import answer, apart
from benchmarks.archives import R50, archive, unpacked
from benchmarks.load import Subject, process, raw, round_robin, torchserve
from benchmarks.measure import report
from benchmarks.model import random_r50
from benchmarks.videos import SIZES, video
from deploy.server import BRIEF_SPIN
from tests.reference import reference_pathways

CLIPS = 2
"""One after the other, in each round."""
TUTORIAL, CALLED, SERVED = "tutorial", "in-process", "served"
SERVED_BF16 = "served, bf16"
"""Where the processor has instructions for it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", choices=(TUTORIAL, CALLED), help=argparse.SUPPRESS)
    parser.add_argument("--archive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer(_tutorial() if options.child == TUTORIAL else _called(options.archive))
    else:
        _compare()


def _compare() -> None:
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        stores = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = unpacked(archive(R50, stores / "auto"))
        arguments = "benchmarks.job", "--archive", str(folder), "--child"
        subjects = [
            process(TUTORIAL, stack.enter_context(apart(*arguments, TUTORIAL))),
            process(CALLED, stack.enter_context(apart(*arguments, CALLED, variables=BRIEF_SPIN))),
            _served(SERVED, stores / "auto", stack),
        ]
        if has_fast("bf16", "cuda" if torch.cuda.is_available() else "cpu"):
            archive(R50, stores / "bf16", "bf16")
            subjects.append(_served(SERVED_BF16, stores / "bf16", stack))
        for width, height in SIZES:
            measured = round_robin(subjects, video(width, height), 1, CLIPS)
            taken = {row["what"]: row["p50 ms"] for row in measured}
            rows.append(
                {
                    "clip": f"{width}x{height}",
                    **{f"{name} ms": ms for name, ms in taken.items()},
                    **{
                        f"{name}, x tutorial": taken[TUTORIAL] / ms
                        for name, ms in taken.items()
                        if name != TUTORIAL
                    },
                }
            )
    report("job", "A file in, labels out: the tutorial's loop and ours", rows)


def _served(name: str, store: Path, stack: ExitStack) -> Subject:
    state = stack.enter_context(torchserve(store))
    return Subject(name, raw(state.predict_url()), pid=state.process.pid)


def _tutorial() -> Callable[[bytes], object]:
    spec, net = random_r50()

    @torch.inference_mode()
    def classify(data: bytes) -> object:
        pathways = reference_pathways(data, spec)
        logits: torch.Tensor = net([pathway[None] for pathway in pathways])
        return logits.softmax(dim=1).topk(5).indices

    return classify


def _called(folder: Path) -> Callable[[bytes], object]:
    keep_freed_memory()
    classifier = Classifier.load(folder)
    return partial(_labels, classifier)


def _labels(classifier: Classifier, data: bytes) -> object:
    (answer,) = classifier.classify([ClipRequest(data)])
    if isinstance(answer, Exception):
        raise answer
    return classifier.reply(answer, 5)


if __name__ == "__main__":
    main()
