"""``python -m tests.fuzz.target ROOT``: libFuzzer's process. Its parent starts another one where it dies.

libFuzzer keeps an input that reaches what no other has reached: an edge of the decoding code's bytecode (which
atheris instruments), or a counter that stands for a behaviour of FFmpeg, which it cannot see into.
"""

from __future__ import annotations

import argparse
import importlib
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

_COUNTERS = 1 << 14
"""For behaviours: thousands are seen, and two that share one would count as one."""
_SAVE_SECONDS = 2.0
_LOST_SECONDS = 60
"""After which libFuzzer ends an input, and its process."""


def main() -> None:
    """Fuzz, for some time or some inputs."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.target")
    parser.add_argument("root", type=Path)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["actionrec"]):
        feedback = importlib.import_module("tests.fuzz.feedback")
    # Only now: these import what is to be instrumented, or it would be too late for it.
    case = importlib.import_module("tests.fuzz.case")
    mutations = importlib.import_module("tests.fuzz.mutations")
    store_module = importlib.import_module("tests.fuzz.store")
    store = store_module.Store(given.root)
    counters = [atheris._reserve_counter() for _ in range(_COUNTERS)]
    outcomes: Counter[str] = Counter()
    signatures: set[str] = set()
    started = saved = time.monotonic()
    donors = [path.read_bytes() for path in (*store.seeds.iterdir(), *store.corpus.iterdir())]

    def save() -> None:
        seconds = time.monotonic() - started
        store.save_counts(store_module.Counts(outcomes.total(), seconds, 0, dict(outcomes)))

    def try_one(data: bytes) -> int:
        """-1 for what is not to be kept: a finding is kept elsewhere, and would only slow the corpus down."""
        nonlocal saved
        store.last.write_bytes(data)
        found = feedback.observe(case.Case.parse(data))
        outcomes[found.outcome] += 1
        if time.monotonic() - saved > _SAVE_SECONDS:
            saved = time.monotonic()
            save()
        if found.finding:
            if (signature := found.signature(data)) not in signatures:
                signatures.add(signature)
                store.suspect(data, found.finding)
            return -1
        for feature in found.features():
            atheris._trace_branch(counters[zlib.crc32(feature.encode()) % _COUNTERS])
        return 0

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        if seed % 8 == 0:
            return bytes(atheris.Mutate(data, most))
        return bytes(mutations.mutate(bytes(data), donors[seed // 8 % len(donors)], most, seed))

    def cross(data: bytes, other: bytes, most: int, seed: int) -> bytes:
        return bytes(mutations.splice(bytes(data), bytes(other), most, seed))

    options = {
        "runs": given.runs,
        "max_total_time": given.seconds,
        "seed": given.seed,
        "max_len": mutations.MOST_BYTES,
        "len_control": 0,
        "mutate_depth": 2,  # of mutations that are large already
        "timeout": _LOST_SECONDS,
        "rss_limit_mb": 0,  # the address space is limited, as in the sandbox
        "artifact_prefix": f"{store.root}/artifact-",
        "print_final_stats": 1,
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup(
        ["fuzz", *arguments, str(store.corpus), str(store.seeds)],
        try_one,
        custom_mutator=mutate,
        custom_crossover=cross,
    )
    feedback.limit_memory()
    save()
    atheris.Fuzz()


if __name__ == "__main__":
    main()
