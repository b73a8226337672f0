"""The whole job on one machine: a file in, labels out. The tutorial's loop against ours, in this process.

The tutorial's loop is pytorchvideo's EncodedVideo and transforms, then the eager model. Both get the same model
(a full-size SlowFast R50, random weights) and the same files.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest
from actionrec.spec import ClipSpec

from benchmarks.archives import R50, archive, unpacked
from benchmarks.measure import interleaved_ms, report
from benchmarks.model import random_r50
from benchmarks.videos import SIZES, video
from tests.reference import reference_pathways

ROUNDS = 5
CLIPS = 4
"""In one call: what a batch of the server is."""


def main() -> None:
    spec, net = random_r50()
    with tempfile.TemporaryDirectory() as folder:
        classifier = Classifier.load(unpacked(archive(R50, Path(folder))))
        rows: list[dict[str, Any]] = []
        for width, height in SIZES:
            data = video(width, height)
            taken = interleaved_ms(
                {
                    "tutorial": partial(_tutorial, net, spec, data),
                    "ours": partial(classifier.classify, [ClipRequest(data)]),
                    "ours, four": partial(classifier.classify, [ClipRequest(data)] * CLIPS),
                },
                ROUNDS,
            )
            rows.append(
                {
                    "clip": f"{width}x{height}",
                    "tutorial ms": taken["tutorial"],
                    "ours ms": taken["ours"],
                    "x tutorial": taken["tutorial"] / taken["ours"],
                    "ours ms a clip of four": taken["ours, four"] / CLIPS,
                    "x tutorial, four": taken["tutorial"] / (taken["ours, four"] / CLIPS),
                }
            )
    report("job", "A file in, labels out: the tutorial's loop and ours", rows)


@torch.inference_mode()
def _tutorial(net: torch.nn.Module, spec: ClipSpec, data: bytes) -> torch.Tensor:
    pathways = reference_pathways(data, spec)
    logits: torch.Tensor = net([pathway[None] for pathway in pathways])
    return logits.softmax(dim=1).topk(5).indices


if __name__ == "__main__":
    main()
