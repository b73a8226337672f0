"""The whole job on one machine: a file in, labels out. The tutorial's loop against ours, called and served.

The tutorial's loop is pytorchvideo's EncodedVideo and transforms, then the eager model. All get the same model
(a full-size SlowFast R50, random weights) and the same files. Each has a process of its own, as it has in use,
which is stopped while another has its turn.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests
import torch
from actionrec.host import keep_freed_memory
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest

from benchmarks.archives import R50, archive, unpacked
from benchmarks.load import PROJECT, Subject, raw, round_robin, torchserve
from benchmarks.measure import report
from benchmarks.model import random_r50
from benchmarks.videos import SIZES, video
from deploy.server import BRIEF_SPIN
from tests.reference import reference_pathways

CLIPS = 2
"""One after the other, in each round."""
TUTORIAL, CALLED, SERVED = "tutorial", "in-process", "served"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", choices=(TUTORIAL, CALLED), help=argparse.SUPPRESS)
    parser.add_argument("--archive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _answer(_tutorial() if options.child == TUTORIAL else _called(options.archive))
    else:
        _compare()


def _compare() -> None:
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = unpacked(archive(R50, store))
        state = stack.enter_context(torchserve(store))
        subjects = [
            stack.enter_context(_child(TUTORIAL, folder, {})),
            stack.enter_context(_child(CALLED, folder, BRIEF_SPIN)),
            Subject(SERVED, raw(state.predict_url()), pid=state.process.pid),
        ]
        for width, height in SIZES:
            measured = round_robin(subjects, video(width, height), 1, CLIPS)
            taken = {row["what"]: row["p50 ms"] for row in measured}
            rows.append(
                {
                    "clip": f"{width}x{height}",
                    **{f"{name} ms": ms for name, ms in taken.items()},
                    **{f"{name}, x tutorial": taken[TUTORIAL] / taken[name] for name in (CALLED, SERVED)},
                }
            )
    report("job", "A file in, labels out: the tutorial's loop and ours", rows)


@contextmanager
def _child(name: str, folder: Path, variables: dict[str, str]) -> Iterator[Subject]:
    """A process that does the job for each clip that it is sent."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.job", "--child", name]
    process = subprocess.Popen(
        [*command, "--archive", str(folder)],
        cwd=PROJECT,
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin
    assert process.stdout

    def classify(_: requests.Session, data: bytes) -> None:
        assert process.stdin
        assert process.stdout
        process.stdin.write(len(data).to_bytes(8, "big") + data)
        process.stdin.flush()
        if process.stdout.readline() != b"done\n":
            raise RuntimeError(f"{name} ended")

    try:
        yield Subject(name, classify, pid=process.pid)
    finally:
        process.kill()
        process.communicate()


def _answer(classify: Callable[[bytes], object]) -> None:
    """The child's side: a clip after its length, as long as there are any."""
    while head := sys.stdin.buffer.read(8):
        classify(sys.stdin.buffer.read(int.from_bytes(head, "big")))
        sys.stdout.write("done\n")
        sys.stdout.flush()


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
