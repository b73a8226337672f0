"""A batch on a thousand nodes: stages measured here, and a simulation that plays them. No cluster is needed.

What is measured is CPU time, which other work on the machine changes less than the clock. What is assumed of a
cluster is in `Assumed`. The simulation hands out blocks of parts as `actionrec_engines.batch` does; nodes fail.
"""

from __future__ import annotations

import bisect
import heapq
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch
from actionrec.service import Row, Service
from actionrec.worker import DECODE_THREADS

from actionrec_engines.archive import Archive, sha256_of
from actionrec_engines.batch import run
from actionrec_engines.batch.plan import Asked, Plan
from benchmarks.archives import R50
from benchmarks.archives import archive as built
from benchmarks.measure import RESULTS, report
from motion.clips import random_clip
from motion.scene import LABELS

CLIPS = 48
NAMES = 1_000_000
BLOCKS = 1000
SEED = 1
_LISTING = """
import re, sys, time
from pathlib import Path
from actionrec_engines.batch import listing
def most_mb():  # getrusage would count what the process before it had
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
listing.shards(Path(sys.argv[1]) / "small", [listing.__file__])
before, began = most_mb(), time.process_time()
listing.shards(Path(sys.argv[1]) / "out", [sys.argv[2]])
print(time.process_time() - began, before, most_mb())
"""


@dataclass(frozen=True)
class Assumed:
    """What no script here can measure."""

    videos: int = 100_000_000
    nodes: int = 1000
    actors_of_a_node: int = 16
    """One for each core."""
    days_between_failures: float = 30.0
    """Of one node, in the mean: with 1,000 nodes one fails every 43 minutes."""
    back_seconds: float = 600.0
    """Until a node that failed is there again, with its models loaded."""
    spread_of_speed: float = 0.1
    """Standard deviation of the logarithm of a node's speed."""
    slow_nodes: float = 0.01
    """Share of nodes that take twice as long."""


@dataclass(frozen=True)
class Outcome:
    """What a simulated run took."""

    hours: float
    efficiency: float
    """Time that all actors would take together with nothing lost, as a share of what they took."""
    last_percent_minutes: float
    """From the moment when 99 % of the parts are there to the end."""
    lost_to_failures: float
    """Share of the work that was done again."""


def simulate(
    assumed: Assumed,
    seconds: Sequence[float],
    part: int,
    blocks_of_an_actor: int,
    *,
    blocks_a_second: float,
    seed: int = SEED,
) -> Outcome:
    """Play a run.

    Args:
        assumed: the cluster.
        seconds: of each measured video, on one core.
        part: videos of a part.
        blocks_of_an_actor: into how many blocks for each actor the parts are divided; 0: 2,000 in all.
        blocks_a_second: that the driver can hand out.
        seed: of chance.
    """
    dice = random.Random(seed)
    actors = assumed.nodes * assumed.actors_of_a_node
    parts = -(-assumed.videos // part)
    size = -(-parts // max(run._BLOCKS, blocks_of_an_actor * actors))
    mean, deviation = statistics.fmean(seconds), statistics.stdev(seconds)
    speed = [
        dice.lognormvariate(0.0, assumed.spread_of_speed) * (2.0 if dice.random() < assumed.slow_nodes else 1.0)
        for _ in range(assumed.nodes)
    ]
    ideal = assumed.videos * mean / sum(assumed.actors_of_a_node / each for each in speed)
    failures = [_failures(dice, assumed, 20 * ideal) for _ in range(assumed.nodes)]
    left, handed = parts, 0.0
    again: list[tuple[float, int]] = []  # when blocks are there to be done once more, and their parts
    free = [(0.0, actor) for actor in range(actors)]
    done: list[tuple[float, int]] = []
    lost = 0.0
    while left or again:
        now, actor = heapq.heappop(free)
        if again and (again[0][0] <= now or not left):
            ready, count = heapq.heappop(again)
            now = max(now, ready)
        else:
            count = min(size, left)
            left -= count
        now = handed = max(now, handed + 1 / blocks_a_second)
        node = actor % assumed.nodes
        videos = count * part
        took = speed[node] * max(0.1 * videos * mean, dice.gauss(videos * mean, deviation * videos**0.5))
        place = bisect.bisect_right(failures[node], now)
        fails = failures[node][place] if place < len(failures[node]) else float("inf")
        if now + took <= fails:
            done.append((now + took, count))
            heapq.heappush(free, (now + took, actor))
            continue
        whole = int((fails - now) / took * count)
        done.append((fails, whole))
        lost += (fails - now) - whole * took / count
        heapq.heappush(again, (fails, count - whole))
        heapq.heappush(free, (fails + assumed.back_seconds, actor))
    done.sort()
    end, there = done[-1][0], list(accumulate(count for _, count in done))
    almost = done[bisect.bisect_left(there, 0.99 * parts)][0]
    return Outcome(end / 3600, ideal / end, (end - almost) / 60, lost / (ideal * actors))


def _failures(dice: random.Random, assumed: Assumed, until: float) -> list[float]:
    times, now = [], 0.0
    while now < until:
        now += dice.expovariate(1 / (assumed.days_between_failures * 86_400))
        times.append(now)
    return times


def measured(folder: Path) -> dict[str, Any]:
    """CPU seconds of the stages on this machine."""
    archive = Archive.open(built("motion", folder / "store"), folder / "cache")
    listed = folder / "names.txt"
    with listed.open("w") as file:
        file.writelines(f"/videos/of/a/folder/{n % 1000:03d}/clip-{n:09d}.mp4\n" for n in range(NAMES))
    command = [sys.executable, "-c", _LISTING, str(folder / "listing"), str(listed)]
    listing_seconds, before_mb, peak_mb = map(
        float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    )
    clips = [random_clip(SEED + number, LABELS[number % len(LABELS)]).data for number in range(CLIPS)]
    large = folder / "large"
    large.write_bytes(b"".join(clips) * 20)
    began = time.process_time()
    sha256_of(large)
    hash_mb = large.stat().st_size / 2**20 / (time.process_time() - began)
    torch.set_num_threads(1)  # as an actor of one core
    os.environ[DECODE_THREADS] = "1"
    service = Service.load(archive.directory, sandbox=False)
    service.answer([Row({"video": clips[0]})])
    seconds = []
    for clip in clips:
        began = time.process_time()
        service.answer([Row({"video": clip})])
        seconds.append(time.process_time() - began)
    service.close()
    return {
        "seconds_a_video": statistics.fmean(seconds),
        "deviation_seconds": statistics.stdev(seconds),
        "names_a_second": NAMES / listing_seconds,
        "listing_before_mb": before_mb,
        "listing_peak_mb": peak_mb,
        "hash_mb_a_second": hash_mb,
        "videos": seconds,
    }


def blocks_a_second() -> float:
    """How fast a driver hands out blocks that are nothing to do, on one node: of the clock, not of the CPU."""
    ray.init("local", include_dashboard=False, log_to_driver=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        for count in (50, BLOCKS):
            began = time.monotonic()
            numbers = run._numbers(range(count)).map_batches(_nothing, batch_size=1)
            for _ in numbers.iter_batches(batch_size=None):
                pass
        return BLOCKS / (time.monotonic() - began)
    finally:
        ray.shutdown()


def _nothing(batch: run.Batch) -> run.Batch:
    return batch


def driver_bytes(assumed: Assumed) -> int:
    """Memory of the driver for the parts of a run: what is left to be done, and what is there."""
    plan = Plan.of(Path("/out"), Path("/x.mar"), Asked("", {}), (), assumed.videos, 1)
    left = list(range(plan.parts))
    return sys.getsizeof(left) + sum(map(sys.getsizeof, left)) + sys.getsizeof(bytearray(plan.parts))


def _r50_seconds() -> float:
    """Core seconds of a clip with a SlowFast R50, as `benchmarks.serve` has measured it in a process."""
    found = json.loads((RESULTS / f"serve_{R50}.json").read_text(encoding="utf-8"))
    rates = [row["clips/s"] for row in found["rows"] if row["what"] == "in-process"]
    return float(found["machine"]["cores"] / statistics.median(rates))


def main() -> None:
    assumed = Assumed()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder))
    seconds = found.pop("videos")
    found["blocks_a_second"] = blocks_a_second()
    rows = []
    slower = _r50_seconds() / found["seconds_a_video"]
    for model, factor in (("motion", 1.0), (R50, slower)):
        for part, blocks in ((100, 8), (1000, 8), (1000, 1), (1000, 0), (3000, 8)):
            given = [each * factor for each in seconds]
            outcome = simulate(assumed, given, part, blocks, blocks_a_second=found["blocks_a_second"])
            rows.append({"model": model, "videos a part": part, "blocks an actor": blocks, **asdict(outcome)})
    report(
        "scale",
        "100 million videos on 1,000 nodes, simulated",
        rows,
        {"measured": found, "assumed": asdict(assumed), "driver_mb": driver_bytes(assumed) / 2**20},
    )


if __name__ == "__main__":
    main()
