"""How settings of a whole process affect a model on a CPU: kept memory, waiting threads, one process or two.

Each setting has two processes; they take turns, first one of them alone, then both at once.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from actionrec.manifest import Manifest
from actionrec.model.host import keep_freed_memory
from actionrec.model.runtime import Runtime

from benchmarks.apart import Apart, answer, apart
from benchmarks.archives import R50, archive, unpacked
from benchmarks.measure import console, report
from deploy.launch import BRIEF_SPIN

SETTINGS: dict[str, tuple[bool, dict[str, str]]] = {
    "as it comes": (False, {}),
    "freed memory is kept": (True, {}),
    "kept, threads sleep at once": (True, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "kept, threads spin briefly (as served)": (True, BRIEF_SPIN),
    "kept, torch asks for huge pages": (True, {**BRIEF_SPIN, "THP_MEM_ALLOC_ENABLE": "1"}),
    "kept, glibc asks for huge pages": (
        True,
        {**BRIEF_SPIN, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    ),
}
"""Name -> whether freed memory is kept, and the environment variables."""

_CLIP, _COLLECT = b"clip", b"collect"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, help="an unpacked one; default: a SlowFast R50, built first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.archive, options.keep)
        return
    with tempfile.TemporaryDirectory() as folder:
        _compare(options.archive or unpacked(archive(R50, Path(folder))), options.rounds)


def _compare(folder: Path, rounds: int) -> None:
    with ExitStack() as stack:
        pairs = {
            name: [stack.enter_context(_start(folder, *setting)) for _ in range(2)]
            for name, setting in SETTINGS.items()
        }
        alone: dict[str, list[float]] = {name: [] for name in pairs}
        both: dict[str, list[float]] = {name: [] for name in pairs}
        faults: dict[str, list[float]] = {name: [] for name in pairs}
        collections = []
        for number in range(rounds + 1):
            for name, pair in pairs.items():
                one, missed = _run(pair[:1])
                two, _ = _run(pair)
                collected, _ = _run(pair[:1], _COLLECT)
                if number:  # the first round warms up
                    alone[name].append(one)
                    both[name].append(two / 2)
                    faults[name].append(missed)
                    collections.append(collected)
    rows: list[dict[str, Any]] = [
        {
            "process": name,
            "one alone, ms a clip": statistics.median(alone[name]),
            "two at once, ms a clip": statistics.median(both[name]),
            "page faults a clip": statistics.median(faults[name]),
        }
        for name in pairs
    ]
    notes = {"full garbage collection, ms": statistics.median(collections)}
    console.print(notes)
    report("process", "Settings of a process that runs a SlowFast R50", rows, notes)


def _start(folder: Path, keep: bool, variables: dict[str, str]) -> AbstractContextManager[Apart]:
    arguments = ["--child", "--archive", str(folder)] + ["--keep"] * keep
    return apart("benchmarks.process", *arguments, variables=variables)


def _run(processes: list[Apart], what: bytes = _CLIP) -> tuple[float, float]:
    """Run it in all processes at once: (milliseconds until all are done, page faults of the first)."""
    begun = time.perf_counter()
    for process in processes:
        process.send(what)
    faults = [float(process.receive()) for process in processes]
    return (time.perf_counter() - begun) * 1e3, faults[0]


def _child(folder: Path, keep: bool) -> None:
    """Classify a clip, or collect garbage, on each request; answers with the number of page faults."""
    if keep:
        keep_freed_memory()
    runtime = Runtime(folder, Manifest.load(folder), "cpu")
    runtime.warm_up()
    spec = runtime.spec
    pathways = runtime.transform([np.zeros((spec.num_frames, spec.crop, spec.crop, 3), np.int16)])

    def handle(what: bytes) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        if what == _CLIP:
            runtime.scores(list(pathways))
        else:
            gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    answer(handle)


if __name__ == "__main__":
    main()
