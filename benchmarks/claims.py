"""A tutorial's claims about SlowFast's speed and memory, beside this machine's figures.

The claims are those of a widely read SlowFast tutorial for pytorchvideo. Rows that need a GPU are marked on a
machine without one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from actionrec.model.host import has_fast

from benchmarks.engines import torch_compile
from benchmarks.measure import interleaved_ms, report
from benchmarks.model import random_r50

ROUNDS = 5
NEEDS_GPU = "needs a GPU"
_MEMORY_BATCH = 8

Pathways = list[torch.Tensor]


@torch.no_grad()
def main() -> None:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    spec, net = random_r50()
    net = net.to(device)

    def pathways(side: int, batch: int = 1, dtype: torch.dtype = torch.float32) -> Pathways:
        return [
            torch.randn(batch, 3, frames, side, side, device=device, dtype=dtype) for frames in spec.pathways
        ]

    def run(model: Callable[[Pathways], object], given: Pathways) -> None:
        model(list(given))
        if cuda:
            torch.cuda.synchronize()

    compiled = torch_compile(net, pathways(256))
    candidates: dict[str, Callable[[], object]] = {
        "fp32": partial(run, net, pathways(256)),
        "224": partial(run, net, pathways(224)),
        "compile": partial(run, lambda _: compiled(), []),
    }
    if has_fast("fp16", device):
        half, given = copy.deepcopy(net).half(), pathways(256, dtype=torch.float16)
        candidates["fp16"] = partial(run, half, given)
    taken = interleaved_ms(candidates, ROUNDS)
    fp16 = taken["fp32"] / taken["fp16"] if "fp16" in taken else NEEDS_GPU
    rows: list[dict[str, Any]] = [
        {
            "claim": "224 cuts compute by about 25 %",
            "here": 1 - taken["224"] / taken["fp32"],
            "of": "time saved",
        },
        {"claim": "torch.compile: 20-30 % faster", "here": taken["fp32"] / taken["compile"], "of": "x eager"},
        {"claim": "fp16: about 1.8x on an A100", "here": fp16, "of": "x fp32"},
        {
            "claim": "8 clips take roughly 4 GB",
            "here": _gigabytes(net, pathways) if cuda else NEEDS_GPU,
            "of": "GB beside the weights, fp32",
        },
    ]
    report("claims", "The tutorial's claims, SlowFast R50 (random weights)", rows)


def _gigabytes(net: torch.nn.Module, pathways: Callable[..., Pathways]) -> float:
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    net(pathways(256, _MEMORY_BATCH))
    return float(torch.cuda.max_memory_allocated() - before) / 1e9


if __name__ == "__main__":
    main()
