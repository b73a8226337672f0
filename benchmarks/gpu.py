"""On a CUDA host: batches of 1 to 64 through every artifact, the share of the roofline, and frames to the
device.

Needs only torch; without pytorchvideo it says what is missing and leaves that part out.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from actionrec.manifest import Manifest
from actionrec.model.runtime import Runtime

from benchmarks.measure import console, interleaved_ms, report
from benchmarks.model import GFLOP, random_r50
from export import artifacts

BATCHES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 10
MATRIX = 8192


def main() -> int:
    if not torch.cuda.is_available():
        console.print("error: torch sees no CUDA device; this measures GPUs", style="red")
        return 1
    spec, net = random_r50()
    labels = tuple(str(i) for i in range(400))
    peak = _peak_tflops()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        runtimes: dict[str, Runtime] = {}
        for name in (artifacts.PORTABLE, artifacts.AOTI):
            for precision in ("fp32", "fp16", "bf16"):
                directory = Path(folder) / f"{name}-{precision}"
                directory.mkdir()
                with torch.inference_mode(False):
                    artifact = artifacts.export(net, spec, artifacts.Target(name, precision, "cuda"), directory)
                    manifest = Manifest("r50", "1.0", spec, "random", (artifact,), labels)
                    runtimes[f"{name} {precision}"] = Runtime(directory, manifest, "cuda")
        wide = net.to("cuda", torch.float16).to(memory_format=torch.channels_last_3d)
        for batch in BATCHES:
            frames = [np.zeros((spec.num_frames, spec.crop, spec.crop, 3), np.int16)] * batch
            candidates: dict[str, Callable[[], object]] = {}
            for name, runtime in runtimes.items():
                pathways = runtime.transform(frames)
                candidates[name] = partial(_model, runtime, pathways)
                candidates[f"{name}, frames and all"] = partial(_whole, runtime, frames)
            half = [p.to(memory_format=torch.channels_last_3d) for p in runtimes["aoti fp16"].transform(frames)]
            candidates["eager fp16 channels_last_3d"] = partial(_eager, wide, half)
            for name, ms in interleaved_ms(candidates, ROUNDS).items():
                rate = batch / (ms / 1e3)
                share = rate * GFLOP / 1e3 / peak["fp32" if "fp32" in name else "fp16"]
                rows.append(
                    {"batch": batch, "form": name, "ms": ms, "clips/s": rate, "of the matrix rate": share}
                )
    report("gpu", f"SlowFast R50 on {torch.cuda.get_device_name()}", rows, {"matrix product, TFLOP/s": peak})
    return 0


def _model(runtime: Runtime, pathways: list[torch.Tensor]) -> None:
    runtime.scores(list(pathways))


def _whole(runtime: Runtime, frames: list[np.ndarray[Any, np.dtype[np.int16]]]) -> None:
    runtime.scores(runtime.transform(frames))


def _eager(net: torch.nn.Module, pathways: list[torch.Tensor]) -> None:
    net(list(pathways))
    torch.cuda.synchronize()


def _peak_tflops() -> dict[str, float]:
    """The rate of a large matrix product, in TFLOP/s, by precision."""
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        a = torch.randn(MATRIX, MATRIX, device="cuda", dtype=dtype)

        def product(a: torch.Tensor = a) -> None:
            torch.mm(a, a)
            torch.cuda.synchronize()

        rates[name] = 2 * MATRIX**3 / 1e12 / (interleaved_ms({"": product}, ROUNDS)[""] / 1e3)
    return rates


if __name__ == "__main__":
    sys.exit(main())
