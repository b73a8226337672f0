"""A tutorial's claims about SlowFast's speed and memory, beside this machine's figures.

The claims are those of a widely read SlowFast tutorial for pytorchvideo, each measured as it stands there: the
eager model, as torch runs it by default (on a GPU with TF32 in convolutions). Claims that need a GPU, or fast
half precision, are marked on a machine without.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from functools import cached_property, partial

import torch
from actionrec.model.host import has_fast

from benchmarks.engines import torch_compile
from benchmarks.gpu.child import Answer, serve
from benchmarks.measure import interleaved_ms, report
from benchmarks.model import R50, random_net
from export import zoo

ROUNDS = 5
NEEDS_GPU = "needs a GPU"
_BATCH = 8

Pathways = list[torch.Tensor]
Model = Callable[[Pathways], object]


class Tutorial:
    """The model as the tutorial has it.

    Args:
        device: ``cpu`` or ``cuda``.
        crop: pixels of a side; 256 in the tutorial.
    """

    def __init__(self, device: str, crop: int | None = None) -> None:
        model = zoo.get(R50)
        model = model.with_crop(crop) if crop else model
        self.spec, self.device = model.spec, torch.device(device)
        self._model = model

    @cached_property
    def net(self) -> torch.nn.Module:
        """The network, random weights."""
        return random_net(self._model).to(self.device)

    def pathways(self, batch: int = 1, side: int | None = None, dtype: torch.dtype = torch.float32) -> Pathways:
        """Noise [B, 3, t, side, side] for each pathway."""
        sides = (side or self.spec.crop,) * 2
        return [
            torch.randn(batch, 3, frames, *sides, device=self.device, dtype=dtype)
            for frames in self.spec.pathways
        ]

    def taken(self, **candidates: tuple[Model, Pathways]) -> dict[str, float]:
        """Median milliseconds of each model with its pathways; they take turns."""

        def run(model: Model, given: Pathways) -> None:
            model(list(given))
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return interleaved_ms({name: partial(run, *each) for name, each in candidates.items()}, ROUNDS)

    def half(self) -> torch.nn.Module:
        """The model in half precision."""
        return copy.deepcopy(self.net).half()

    def gigabytes(self, net: torch.nn.Module, given: Pathways) -> float:
        """The memory of a model, its inputs and the most that a call takes, as the allocator reserves it."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
        net(list(given))
        taken = torch.cuda.max_memory_reserved() - before
        held = sum(each.nbytes for each in (*net.parameters(), *net.buffers(), *given))
        return float(taken + held) / 1e9


def _smaller(tutorial: Tutorial) -> float:
    side = tutorial.spec.crop * 7 // 8
    net = tutorial.net
    taken = tutorial.taken(large=(net, tutorial.pathways()), small=(net, tutorial.pathways(side=side)))
    return 1 - taken["small"] / taken["large"]


def _compile(tutorial: Tutorial) -> float:
    given = tutorial.pathways()
    compiled = torch_compile(tutorial.net, given)
    taken = tutorial.taken(eager=(tutorial.net, given), compiled=(lambda _: compiled(), []))
    return taken["eager"] / taken["compiled"]


def _traced(tutorial: Tutorial) -> float:
    given = tutorial.pathways()
    traced = torch.jit.trace(tutorial.net, (list(given),), check_trace=False)  # type: ignore[no-untyped-call]
    taken = tutorial.taken(eager=(tutorial.net, given), traced=(traced, given))
    return taken["eager"] / taken["traced"]


def _batches(tutorial: Tutorial) -> float:
    net = tutorial.net
    taken = tutorial.taken(one=(net, tutorial.pathways()), many=(net, tutorial.pathways(_BATCH)))
    return _BATCH * taken["one"] / taken["many"]


def _fp16(tutorial: Tutorial) -> float | str:
    if not has_fast("fp16", tutorial.device):
        return NEEDS_GPU
    halves = tutorial.pathways(dtype=torch.float16)
    taken = tutorial.taken(fp32=(tutorial.net, tutorial.pathways()), fp16=(tutorial.half(), halves))
    return taken["fp32"] / taken["fp16"]


def _memory(tutorial: Tutorial) -> float | str:
    if tutorial.device.type != "cuda":
        return NEEDS_GPU
    return tutorial.gigabytes(tutorial.net, tutorial.pathways(_BATCH))


def _half_memory(tutorial: Tutorial) -> float | str:
    if tutorial.device.type != "cuda":
        return NEEDS_GPU
    halves = tutorial.pathways(_BATCH, dtype=torch.float16)
    return tutorial.gigabytes(tutorial.half(), halves) / tutorial.gigabytes(
        tutorial.net, tutorial.pathways(_BATCH)
    )


CLAIMS: dict[str, tuple[Callable[[Tutorial], float | str], str]] = {
    "fp16: about 1.8x on an A100": (_fp16, "x fp32"),
    "fp16 cuts memory in half": (_half_memory, "of fp32's, 8 clips"),
    "8 clips take roughly 4 GB": (_memory, "GB with weights and inputs, fp32"),
    "batches use the GPU better": (_batches, "x the clips a second of single ones, 8 clips"),
    "224 cuts compute by about 25 %": (_smaller, "time saved"),
    "TorchScript removes Python's overhead": (_traced, "x eager"),
    "torch.compile: 20-30 % faster": (_compile, "x eager"),
}
"""Claim -> what measures it, and in which unit."""


@torch.no_grad()
def measure(tutorial: Tutorial, claim: str) -> Answer:
    """One claim's row."""
    run, unit = CLAIMS[claim]
    return {"here": run(tutorial), "of": unit}


def _answer(tutorial: Tutorial, claim: str) -> Answer:
    """The same for the checks of a GPU host, which skip what cannot be measured."""
    row = measure(tutorial, claim)
    return {"cannot": row["here"]} if isinstance(row["here"], str) else row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--crop", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    tutorial = Tutorial(options.device or ("cuda" if torch.cuda.is_available() else "cpu"), options.crop)
    if options.serve:
        serve({"measure": partial(_answer, tutorial)})
        return
    rows = [{"claim": claim, **measure(tutorial, claim)} for claim in CLAIMS]
    report("claims", "The tutorial's claims, SlowFast R50 (random weights)", rows)


if __name__ == "__main__":
    main()
