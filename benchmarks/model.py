"""One clip through a full-size SlowFast R50 (random weights), in every form, against the eager model.

Each form has a process of its own. Those "as served" are set up as a worker is: it keeps the memory that it
frees, its threads spin briefly, and pathways lie in memory as `actionrec.model.transform.pack` has them.
OpenVINO and ONNX Runtime keep memory by themselves.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from actionrec.manifest import Artifact, Manifest
from actionrec.model.host import keep_freed_memory
from actionrec.model.runtime import Runtime
from actionrec.model.transform import LAYOUT
from actionrec.spec import ClipSpec

from benchmarks.apart import answer, apart
from benchmarks.engines import BF16, ENGINES, INT8, Pathways, Run, installed
from benchmarks.measure import interleaved_ms, report
from deploy.launch import BRIEF_SPIN
from export import artifacts, calibrate, zoo
from export.calibration import generated
from export.quantise.choose import Closeness, Quantising
from export.zoo import ZooModel

R50 = "slowfast_r50"
ROUNDS = 7
GFLOP = 131.4
"""Of one clip at 256 x 256: 65.71 GMAC."""
MATRIX = 4096
EAGER, PRODUCT, INT8_PRODUCT, AS_SERVED = "eager", "matrix product", "int8 matrix product", ", as served"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", choices=(*FORMS, PRODUCT, INT8_PRODUCT), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _answer(options.child)
    else:
        _compare()


def _compare() -> None:
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(
                apart(
                    "benchmarks.model",
                    "--child",
                    name,
                    variables=BRIEF_SPIN if name.endswith(AS_SERVED) else None,
                )
            )
            for name in (*FORMS, PRODUCT, INT8_PRODUCT)
            if installed(name)
        }
        # With random weights scores are near each other, so int8 may find another best one.
        exact = {name: child for name, child in children.items() if name not in (PRODUCT, INT8_PRODUCT)}
        best = {name: child.ask() for name, child in exact.items() if INT8 not in name}
        if wrong := {name: found for name, found in best.items() if found != best[EAGER]}:
            raise RuntimeError(f"The eager model's best class is {best[EAGER]}; others have {wrong}")
        candidates = {name: child.ask for name, child in children.items()}
        taken = interleaved_ms(candidates, ROUNDS, settle=True)
    product_gflops, int8_gops = (
        2 * MATRIX**3 / 1e9 / (taken.pop(name) / 1e3) for name in (PRODUCT, INT8_PRODUCT)
    )
    rows: list[dict[str, Any]] = [
        {
            "form": name,
            "ms a clip": ms,
            "x eager": taken[EAGER] / ms,
            "GFLOP/s": GFLOP / (ms / 1e3),
            "of the matrix product's rate": GFLOP
            / (ms / 1e3)
            / (int8_gops if INT8 in name else product_gflops),
        }
        for name, ms in taken.items()
    ]
    title = (
        f"SlowFast R50, one clip; a matrix product runs at {product_gflops:.0f} GFLOP/s, of bytes at "
        f"{int8_gops:.0f} GOP/s"
    )
    report("model", title, rows)


@torch.inference_mode()
def _answer(name: str) -> None:
    """The child's side: one clip, or one product, whenever it is asked; answers with the best class."""
    if name.endswith(AS_SERVED):
        keep_freed_memory()
    if name == PRODUCT:
        a, b, out = (torch.randn(MATRIX, MATRIX) for _ in range(3))
        answer(lambda _: torch.mm(a, b, out=out) is None)
        return
    if name == INT8_PRODUCT:
        left, right = (torch.randint(-100, 100, (MATRIX, MATRIX), dtype=torch.int8) for _ in range(2))
        answer(lambda _: torch._int_mm(left, right) is None)
        return
    spec, net = random_r50()
    torch.manual_seed(0)
    pathways = [torch.randn(1, 3, frames, spec.crop, spec.crop) for frames in spec.pathways]
    with tempfile.TemporaryDirectory() as folder:
        run = FORMS[name](net, pathways, Path(folder))
        answer(lambda _: _best(run()))


def _eager(net: torch.nn.Module, pathways: Pathways, _: Path) -> Run:
    return lambda: net(list(pathways))


def _channels_last(net: torch.nn.Module, pathways: Pathways, _: Path) -> Run:
    wide = copy.deepcopy(net).to(memory_format=torch.channels_last_3d)
    return lambda: wide(list(pathways))


def _frozen(net: torch.nn.Module, pathways: Pathways, folder: Path) -> Run:
    load(zoo.get(R50), net, artifacts.PORTABLE, folder)
    plain = torch.jit.freeze(torch.jit.load(str(folder / "model.pt")).eval())  # type: ignore[no-untyped-call]
    return lambda: plain(list(pathways))


def _served(form: str, net: torch.nn.Module, pathways: Pathways, folder: Path, precision: str = "fp32") -> Run:
    runtime = load(zoo.get(R50), net, form, folder, precision)
    given = pathways
    if runtime.dtype == torch.uint8:
        mean, std = runtime.spec.mean[0], runtime.spec.std[0]
        given = [((pathway * std + mean) * 255).round().clamp(0, 255) for pathway in pathways]
    packed = [pathway.to(runtime.dtype, memory_format=LAYOUT) for pathway in given]
    return lambda: runtime.scores([packed])


FORMS: dict[str, Callable[[torch.nn.Module, Pathways, Path], Run]] = {
    EAGER: _eager,
    "eager, channels_last_3d": _channels_last,
    "TorchScript, frozen only": _frozen,
    "torchscript" + AS_SERVED: partial(_served, artifacts.PORTABLE),
    "aoti" + AS_SERVED: partial(_served, artifacts.AOTI),
    "aoti" + BF16 + AS_SERVED: partial(_served, artifacts.AOTI, precision="bf16"),
    "aoti" + INT8 + AS_SERVED: partial(_served, artifacts.AOTI, precision="int8"),
    **ENGINES,
}
"""Name -> what makes a form ready in its process."""


def _best(result: object) -> int:
    """The best class of logits or probabilities [1, classes], however an engine returns them."""
    while not hasattr(result, "shape"):
        result = result[0]  # type: ignore[index]
    return int(np.asarray(result).argmax())


def random_r50() -> tuple[ClipSpec, torch.nn.Module]:
    """Build the full-size network with random weights: speed does not depend on them."""
    model = zoo.get(R50)
    return model.spec, random_net(model)


def random_net(model: ZooModel) -> torch.nn.Module:
    """Build a model with random weights."""
    net = model.build(model.spec, len(model.labels()))
    calibrate.randomise(net, 0)
    return net


def load(model: ZooModel, net: torch.nn.Module, runtime: str, folder: Path, precision: str = "fp32") -> Runtime:
    """Export a model and load it as the server does, warmed up."""
    # Any closeness will do: speed does not depend on what bytes stand for.
    quick = Quantising(generated(model.spec), Closeness(0.0, 1.0)) if precision == "int8" else None
    target = artifacts.Target(runtime, precision, "cpu")
    form: Artifact = artifacts.export(net, model.spec, target, folder, quick)
    loaded = Runtime(folder, Manifest(model.name, "1.0", model.spec, "random", (form,), model.labels()), "cpu")
    loaded.warm_up()
    return loaded


if __name__ == "__main__":
    main()
