"""What a device can do at most: products of large matrices in each precision, and a copy within its memory."""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import torch
from actionrec.model.host import has_fast, why_slow
from actionrec.model.runtime import DTYPES

from benchmarks.gpu.child import Answer, serve

RUNS = 10
_WARM_UP_RUNS = 3


def product(device: str, precision: str, edge: int) -> Answer:
    """The rate of a matrix product. float32 in full for ``fp32``, through TF32 for ``tf32`` alone.

    Args:
        device: ``cuda`` or ``cpu``.
        precision: a key of `DTYPES`.
        edge: of the square matrices.
    """
    if not has_fast(precision, device):
        return {"cannot": why_slow(precision, device)}
    if not DTYPES[precision].is_floating_point:
        return {"cannot": f"torch multiplies no matrices of {precision}"}
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    # Noise: some GPUs multiply zeros an eighth faster.
    left, right = (torch.randn(edge, edge, device=device).to(DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(left)
    taken = _seconds(device, partial(torch.mm, left, right, out=out))
    return {"TFLOP/s": 2 * edge**3 / taken / 1e12}


def copy(device: str, size: int) -> Answer:
    """The rate at which memory is read and written.

    Args:
        device: ``cuda`` or ``cpu``.
        size: bytes, many times what caches hold.
    """
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {"GB/s": 2 * size / _seconds(device, partial(target.copy_, source)) / 1e9}


def _seconds(device: str, run: partial[torch.Tensor]) -> float:
    """The median of some runs."""
    taken = []
    for number in range(_WARM_UP_RUNS + RUNS):
        begun = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        if number >= _WARM_UP_RUNS:
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True)
    device = parser.parse_args().device
    serve({"product": partial(product, device), "copy": partial(copy, device)})


if __name__ == "__main__":
    main()
