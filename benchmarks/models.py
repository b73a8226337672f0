"""One clip through each model of the zoo (random weights), as served, with its published accuracy and cost."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from actionrec.model.host import keep_freed_memory
from actionrec.model.transform import pack
from actionrec.spec import STEPS_PER_LEVEL, ClipSpec

from benchmarks.apart import answer, apart
from benchmarks.measure import interleaved_ms, report
from benchmarks.model import load, random_net
from deploy.launch import BRIEF_SPIN
from export import artifacts, zoo

ROUNDS = 9

PUBLISHED = {
    "motion": (None, None),
    "x3d_s": (73.33, 2.96),
    "x3d_m": (75.94, 6.72),
    "slow_r50": (74.58, 54.52),
    "slowfast_r50": (76.94, 65.71),
    "slowfast_r101": (77.90, 127.20),
    "slowfast_16x8_r101_50_50": (78.70, 215.61),
}
"""Top-1 on Kinetics-400 in percent, of 30 views a video, and GFLOP of one view, where a multiplication and its
addition count as one. From https://pytorchvideo.readthedocs.io/en/latest/model_zoo.html."""

AOTI, TORCHSCRIPT, EAGER = artifacts.AOTI, artifacts.PORTABLE, "eager"
FORMS = (AOTI, TORCHSCRIPT, EAGER)
DEFAULT = ("motion", "x3d_s", "x3d_m", "slow_r50", "slowfast_r50")


def main() -> None:
    """Measure, or be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", default=DEFAULT, choices=PUBLISHED)
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "FORM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _answer(*options.child)
    else:
        _compare(options.model)


def _compare(names: list[str]) -> None:
    rows: list[dict[str, Any]] = []
    taken: dict[tuple[str, str], float] = {}
    with ExitStack() as stack:
        children = {
            (name, form): stack.enter_context(
                apart(
                    "benchmarks.models", "--child", name, form, variables=None if form == EAGER else BRIEF_SPIN
                )
            )
            for name in names
            for form in FORMS
        }
        candidates = {f"{name} {form}": child.ask for (name, form), child in children.items()}
        for key, ms in interleaved_ms(candidates, ROUNDS, settle=True).items():
            name, form = key.split()
            taken[name, form] = ms
    for name in names:
        spec = zoo.get(name).spec
        accuracy, gflop = PUBLISHED[name]
        served = taken[name, AOTI]
        rows.append(
            {
                "model": name,
                "frames": " + ".join(map(str, spec.pathways)),
                "side": spec.crop,
                "seconds": spec.window_seconds,
                "top-1 %": accuracy,
                "GFLOP": gflop,
                "ms, aoti": served,
                "torchscript": taken[name, TORCHSCRIPT],
                "eager": taken[name, EAGER],
                "x eager": taken[name, EAGER] / served,
            }
        )
    report("models", "One clip through each model, ms in fp32: as served (aoti, torchscript), and eager", rows)


@torch.inference_mode()
def _answer(name: str, form: str) -> None:
    """Classify one clip whenever it is asked: the child's side."""
    model = zoo.get(name)
    net = random_net(model)
    if form == EAGER:
        pathways = _pathways(model.spec)
        answer(lambda _: int(net(list(pathways)).argmax()))
        return
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        runtime = load(model, net, form, Path(folder))
        given = runtime.transform([_noise(model.spec)])
        answer(lambda _: int(runtime.scores(list(given)).argmax()))


def _noise(spec: ClipSpec) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Make a clip of noise: int16 [T, crop, crop, 3]."""
    shape = (spec.num_frames, spec.crop, spec.crop, 3)
    return np.random.default_rng(0).integers(0, 255 * STEPS_PER_LEVEL, shape, dtype=np.int16)


def _pathways(spec: ClipSpec) -> list[torch.Tensor]:
    """Make pathways as pytorchvideo's own pipeline lays them out: float32 [1, 3, t, crop, crop] each."""
    return [each.contiguous() for each in pack(torch.from_numpy(_noise(spec))[None], spec)]


if __name__ == "__main__":
    main()
