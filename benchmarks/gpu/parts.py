"""What a served clip is made of, each part by itself: decoding, and the tutorial's whole loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import cv2
from actionrec.limits import Limits
from actionrec.sampling import FIRST_WINDOW
from actionrec.sandbox import Caller, Sandbox
from actionrec.video.decode import decode

from benchmarks.gpu.child import Answer, serve
from benchmarks.gpu.forms import zoo_model
from benchmarks.job import tutorial

Run = Callable[[bytes, int], object]
"""(clip, number of the thread)."""


def decoding(clip: str, model: str, crop: int | None, seconds: float) -> Answer:
    """Decode a window again and again in this process: with one process a core, all that a machine can."""
    cv2.setNumThreads(1)
    spec = zoo_model(model, crop).spec
    return _rate(lambda data, _: decode(data, spec), clip, 1, seconds)


def sandboxed(clip: str, model: str, crop: int | None, threads: int, named: bool, seconds: float) -> Answer:
    """The same as a worker has it done: by child processes.

    Args:
        clip: path of a file.
        model, crop: whose windows.
        threads: windows at once.
        named: whether clients have names, and keep their children.
        seconds: how long.
    """
    spec, limits = zoo_model(model, crop).spec, Limits()
    with Sandbox(spec, limits, threads) as sandbox:

        def run(data: bytes, number: int) -> object:
            caller = Caller(f"client-{number}" if named else "")
            return next(sandbox.windows(data, spec, FIRST_WINDOW, limits, caller))

        return _rate(run, clip, threads, seconds)


def loop(clip: str, device: str, model: str, crop: int | None, seconds: float) -> Answer:
    """The tutorial's loop on a device: pytorchvideo's pipeline, then the eager model, clip after clip."""
    classify = _tutorial(device, model, crop)
    return _rate(lambda data, _: classify(data), clip, 1, seconds)


@cache
def _tutorial(device: str, model: str, crop: int | None) -> Callable[[bytes], object]:
    return tutorial(device, zoo_model(model, crop))


def _rate(run: Run, clip: str, threads: int, seconds: float) -> Answer:
    """How often something can be done: clips a second of all threads, after one that does not count."""
    data = Path(clip).read_bytes()
    run(data, 0)
    begun = time.perf_counter()

    def again(number: int) -> int:
        count = 0
        while time.perf_counter() - begun < seconds:
            run(data, number)
            count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        count = sum(pool.map(again, range(threads)))
    return {"clips/s": count / (time.perf_counter() - begun)}


if __name__ == "__main__":
    serve({"ready": dict, "decoding": decoding, "sandboxed": sandboxed, "loop": loop})
