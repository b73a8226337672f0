"""How far scores are from the published pipeline's: with our decoded frames, and with whole levels.

Usage: python -m benchmarks.precision CLIP...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from actionrec.model.transform import pack
from actionrec.spec import STEPS_PER_LEVEL
from actionrec.video.decode import decode

from benchmarks.measure import report
from export import calibrate, zoo
from export.samples import calibration_clips
from testing.reference import reference_pathways


@torch.inference_mode()
def main(paths: list[str]) -> None:
    model = zoo.get("slowfast_r50").with_crop(128)
    spec = model.spec
    net = model.build(spec, 400)
    calibrate.randomise(net, 0)
    calibrate.calibrate(net, model, calibration_clips(spec, calibrate.CLIPS, 0))
    rows: list[dict[str, Any]] = []
    for path in map(Path, paths):
        data = path.read_bytes()
        expected = net([pathway[None] for pathway in reference_pathways(data, spec)]).softmax(1)
        view = decode(data, spec)
        row: dict[str, Any] = {"clip": path.name, "best score": float(expected.max())}
        levels = view.rounded().astype("int16") * STEPS_PER_LEVEL
        for name, frames in (("1/128 levels", view.frames), ("whole levels", levels)):
            scores = net(pack(torch.from_numpy(frames)[None], spec)).softmax(1)
            row[f"largest difference, {name}"] = float((scores - expected).abs().max())
        rows.append(row)
    report(
        "precision", "Scores against pytorchvideo's pipeline, SlowFast R50 (random weights) at 128 x 128", rows
    )


if __name__ == "__main__":
    main(sys.argv[1:])
