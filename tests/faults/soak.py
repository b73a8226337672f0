"""Whether a server that works for long grows: memory, descriptors, threads, temporary files."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from deploy import server

from .harness import Answer, Clip, Verdict, clips, closed_loop, count, once, serving

SAMPLE_SECONDS = 2.0
WARM_UP_SHARE = 0.4
"""Of the run, at its beginning, that does not count: heaps and caches are filled then."""


@dataclass(frozen=True)
class Tolerance:
    """How much a quantity may grow over the run after the warm-up and still count as flat."""

    share: float
    """Of its own middle value..."""
    least: float
    """... but at least this."""


MEMORY_MB = Tolerance(share=0.05, least=10.0)
HEAP_MB = Tolerance(share=0.25, least=64.0)  # Java collects when it likes
COUNT = Tolerance(share=0.0, least=3.0)
TOLERANCES = {
    "workers_mb": MEMORY_MB,
    "jvm_mb": HEAP_MB,
    "workers_descriptors": COUNT,
    "jvm_descriptors": Tolerance(share=0.0, least=12.0),  # connections come and go
    "workers_threads": COUNT,
    "jvm_threads": COUNT,
    "temporary_files": COUNT,
}


@dataclass(frozen=True)
class Sample:
    """The server at one moment."""

    seconds: float
    values: dict[str, float]


def growth(samples: Sequence[Sample], name: str) -> float:
    """Growth after the warm-up: the median slope of all pairs (Theil and Sen), times the time.

    One peak, or a step down, does not move it as it would a fitted line.
    """
    kept = samples[int(len(samples) * WARM_UP_SHARE) :]
    # Of very many samples every so many do.
    kept = kept[:: max(1, len(kept) // 200)]
    slopes = [
        (b.values[name] - a.values[name]) / (b.seconds - a.seconds)
        for number, a in enumerate(kept)
        for b in kept[number + 1 :]
    ]
    return statistics.median(slopes) * (kept[-1].seconds - kept[0].seconds) if slopes else 0.0


def growing(samples: Sequence[Sample], tolerances: dict[str, Tolerance] = TOLERANCES) -> dict[str, float]:
    """The quantities that are not flat, and by how much they grew."""
    found = {}
    for name, tolerance in tolerances.items():
        grew = growth(samples, name)
        middle = statistics.median(sample.values[name] for sample in samples)
        if grew > max(tolerance.least, tolerance.share * middle):
            found[name] = round(grew, 1)
    return found


def watch(
    state: server.State,
    load: Callable[[Callable[[], bool]], None],
    seconds: float,
    sample_seconds: float = SAMPLE_SECONDS,
) -> list[Sample]:
    """Samples of a server while `load`, which is given a function that says when to end, runs."""
    end = threading.Event()
    thread = threading.Thread(target=load, args=(end.is_set,))
    thread.start()
    samples, began = [], time.monotonic()
    try:
        while time.monotonic() < began + seconds:
            samples.append(Sample(time.monotonic() - began, _look(state)))
            time.sleep(sample_seconds)
    finally:
        end.set()
        thread.join()
    return samples


def soak(archive: Path, seconds: float, seed: int) -> Verdict:
    """Good and bad clips for a long time: nothing of the server grows."""
    with serving(archive, workers=1) as (state, _):
        url = state.predict_url()
        known = clips(url, seed)
        statuses = count([])
        dice = random.Random(seed)

        def load(until: Callable[[], bool]) -> None:
            def ask(clip: Clip) -> Answer:
                if dice.random() < 0.1:
                    requests.post(
                        url, files={"video": clip.data[: dice.randrange(len(clip.data))]}, timeout=120
                    )
                return once(url, clip)

            statuses.update(count(closed_loop(ask, known, 3, until, seed)))

        samples = watch(state, load, seconds)
    verdict = Verdict({"requests": sum(statuses.values()), "samples": len(samples)})
    for name in TOLERANCES:
        verdict.figures[name] = round(samples[-1].values[name], 1)
        verdict.figures[f"{name}_growth"] = round(growth(samples, name), 1)
    found = growing(samples)
    verdict.expect(not found, f"nothing grows: {found}")
    verdict.expect(set(statuses) == {200}, f"every good clip is answered: {dict(statuses)}")
    return verdict


def _look(state: server.State) -> dict[str, float]:
    jvm = psutil.Process(state.process.pid)
    values = dict.fromkeys(TOLERANCES, 0.0)
    for owner, processes in (("jvm", [jvm]), ("workers", jvm.children(recursive=True))):
        for process in processes:
            try:
                values[f"{owner}_mb"] += process.memory_info().rss / 2**20
                values[f"{owner}_descriptors"] += process.num_fds()
                values[f"{owner}_threads"] += process.num_threads()
            except psutil.Error:
                continue  # a child that has just ended
    values["temporary_files"] = sum(1 for path in Path(state.temp_dir).rglob("*") if path.is_file())
    return values
