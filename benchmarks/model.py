"""One clip through a full-size SlowFast R50 (random weights), in every form, against the eager model."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from actionrec.manifest import Form, Manifest
from actionrec.runtime import Runtime
from actionrec.spec import ClipSpec

from benchmarks.engines import others
from benchmarks.measure import interleaved_ms, report
from export import artifacts, calibrate, zoo

ROUNDS = 7
GFLOP = 131.4
"""Of one clip at 256 x 256: 65.71 GMAC."""
MATRIX = 4096


def main() -> None:
    spec, net = random_r50()
    slow = torch.randn(1, 3, spec.slow_frames, spec.crop, spec.crop)
    fast = torch.randn(1, 3, spec.num_frames, spec.crop, spec.crop)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        candidates: dict[str, Callable[[], object]] = {"eager": lambda: net([slow, fast])}
        for name in (artifacts.PORTABLE, artifacts.AOTI):
            runtime = _runtime(net, name, Path(folder))
            candidates[f"{name}, as served"] = partial(_served, runtime, slow, fast)
        plain = torch.jit.load(str(Path(folder) / "model.pt"))  # type: ignore[no-untyped-call]
        candidates["TorchScript, frozen only"] = lambda: plain([slow, fast])
        candidates |= others(net, [slow, fast], Path(folder))
        wide = copy.deepcopy(net).to(memory_format=torch.channels_last_3d)
        candidates["eager, channels_last_3d"] = lambda: wide([slow, fast])
        _same_answers(candidates)
        a, b = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)
        candidates["matrix product"] = lambda: a @ b
        taken = interleaved_ms(candidates, ROUNDS)
    product_gflops = 2 * MATRIX**3 / 1e9 / (taken.pop("matrix product") / 1e3)
    rows: list[dict[str, Any]] = [
        {
            "form": name,
            "ms a clip": ms,
            "x eager": taken["eager"] / ms,
            "GFLOP/s": GFLOP / (ms / 1e3),
            "of the matrix product's rate": GFLOP / (ms / 1e3) / product_gflops,
        }
        for name, ms in taken.items()
    ]
    report("model", f"SlowFast R50, one clip; a matrix product runs at {product_gflops:.0f} GFLOP/s", rows)


def _same_answers(candidates: Mapping[str, Callable[[], object]]) -> None:
    """Each candidate must compute the same classes' order as the eager model before it is timed."""
    expected = _best(candidates["eager"]())
    for name, run in candidates.items():
        if _best(run()) != expected:
            raise RuntimeError(f"{name} has another best class than the eager model")


def _best(result: object) -> int:
    """The best class of logits or probabilities [1, classes], however an engine returns them."""
    while not hasattr(result, "shape"):
        result = result[0]  # type: ignore[index]
    return int(np.asarray(result).argmax())


def random_r50() -> tuple[ClipSpec, torch.nn.Module]:
    """The full-size network with random weights: speed does not depend on them."""
    model = zoo.get("slowfast_r50")
    net = model.build(model.spec, 400)
    calibrate.randomise(net, 0)
    return model.spec, net


def _runtime(net: torch.nn.Module, runtime: str, folder: Path) -> Runtime:
    """A form as the server loads it, warmed up."""
    spec = zoo.get("slowfast_r50").spec
    form: Form = artifacts.export(net, spec, artifacts.Target(runtime, "fp32", "cpu"), folder)
    labels = tuple(str(i) for i in range(400))
    loaded = Runtime(folder, Manifest("r50", "1.0", spec, "random", (form,), labels), "cpu")
    loaded.warm_up()
    return loaded


def _served(runtime: Runtime, slow: torch.Tensor, fast: torch.Tensor) -> object:
    return runtime.scores([slow, fast])


if __name__ == "__main__":
    main()
