"""How many pods a rate takes: ``python -m benchmarks.capacity --url http://127.0.0.1:8000 --rate 50``.

    ms of each clip, measured -> the least number of pods whose slowest twentieth waits no longer than allowed
                                 (a formula) -> the same by simulation of the queue -> cores, GPUs, cost

A pod works on one request at a time, because one clip fills every core, and requests come to pods by chance, as
Kubernetes' services send them: each pod is a queue with Poisson arrivals and the measured times (M/G/1).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import requests
from rich.table import Table

from benchmarks.measure import console, machine
from motion.clips import random_clip
from motion.scene import LABELS

Times = npt.NDArray[np.float64]
"""Shape (n,), seconds."""
SHARE = 0.95
"""Of the requests, which must have their answer in the allowed time."""
_REQUESTS = 400_000
"""Of one simulation: its 95th percentile is right to about a hundredth."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rate takes."""

    rate: float
    """Requests a second, at the peak."""
    pods: int
    busy: float
    """Share of its time that a pod works."""
    formula_seconds: float
    """Within which `SHARE` of the requests are answered, by the formula..."""
    simulated_seconds: float
    """... and by the simulation."""


def answered_within(times: Times, rate: float) -> float:
    """Seconds within which `SHARE` of the requests to one pod are answered; infinite where they pile up.

    The mean wait is that of Pollaczek and Khinchine. The wait's distribution is taken as exponential beyond the
    share that waits at all, which holds for busy queues; a request's own time is added at the same percentile
    where few wait, and at its mean where many do, whichever is longer.

    Args:
        times: seconds of work of a request, measured.
        rate: requests a second that come to the pod.
    """
    mean = float(times.mean())
    busy = rate * mean
    if busy >= 1.0:
        return math.inf
    wait = rate * float((times**2).mean()) / (2.0 * (1.0 - busy))
    late = 1.0 - SHARE
    waited = wait / busy * math.log(busy / late) if busy > late else 0.0
    return max(waited + mean, float(np.quantile(times, SHARE)))


def simulate(times: Times, rate: float, requests_: int = _REQUESTS, seed: int = 0) -> Times:
    """Seconds from coming to the answer, of each request to one pod.

    Args:
        times: seconds of work, drawn from by chance.
        rate: requests a second.
        requests_: how many.
        seed: of the chance.
    """
    chance = np.random.default_rng(seed)
    work = chance.choice(times, requests_)
    gaps = chance.exponential(1.0 / rate, requests_)
    # Lindley: a request waits for what the one before waited and worked, less the gap; never below 0.
    steps = np.concatenate(([0.0], np.cumsum(work[:-1] - gaps[1:])))
    waits = steps - np.minimum.accumulate(steps)
    answered: Times = waits + work
    return answered


def plan(times: Times, rate: float, allowed_seconds: float) -> Plan:
    """The least number of pods by the formula, and a hundredth more at a time until the simulation agrees.

    Args:
        times: seconds of work of a request, measured on such a pod.
        rate: requests a second, at the peak.
        allowed_seconds: in which `SHARE` of the requests must be answered.

    Raises:
        ValueError: no number of pods is enough.
    """
    alone = float(np.quantile(times, SHARE))
    if allowed_seconds <= alone:
        raise ValueError(
            f"{allowed_seconds:g} s are not enough for one request alone, which takes {alone:.3g} s; allow more"
        )
    low, high = 0, max(1, math.ceil(rate * float(times.mean())))
    while answered_within(times, rate / high) > allowed_seconds:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if answered_within(times, rate / middle) > allowed_seconds:
            low = middle
        else:
            high = middle
    while (simulated := float(np.quantile(simulate(times, rate / high), SHARE))) > allowed_seconds:
        high += max(1, high // 100)
    busy = rate / high * float(times.mean())
    return Plan(rate, high, busy, answered_within(times, rate / high), simulated)


def cost_per_million(pods: int, pod_hour: float, rate: float) -> float:
    """Of a million clips, in the currency of `pod_hour`.

    Args:
        pods: that run all the time.
        pod_hour: price of one for an hour.
        rate: clips a second, on average.
    """
    return pods * pod_hour / 3600.0 / rate * 1e6


def measure(url: str, model: str, count: int) -> Times:
    """Seconds of each request to a server that does nothing else, one after the other.

    Args:
        url: of a gateway or of TorchServe.
        model: its name.
        count: how many.
    """
    clips = [random_clip(seed, LABELS[seed % len(LABELS)]).data for seed in range(16)]
    seconds = []
    with requests.Session() as session:
        for number in range(count + len(clips)):
            began = time.perf_counter()
            reply = session.post(f"{url}/predictions/{model}", clips[number % len(clips)], timeout=120)
            seconds.append(time.perf_counter() - began)
            reply.raise_for_status()
    return np.array(seconds[len(clips) :])  # the first ones warm it up


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan; exit code 1 where no number of pods is enough."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--url", help="measure an idle server here; it is as large as a pod will be")
    source.add_argument("--times", type=Path, help='a file {"milliseconds": [...]}, as --save writes it')
    parser.add_argument("--model", default="motion")
    parser.add_argument("--count", type=int, default=200, help="requests to measure")
    parser.add_argument("--save", type=Path, help="write what was measured")
    parser.add_argument("--rate", type=float, nargs="+", required=True, help="clips a second, on average")
    parser.add_argument("--peak", type=float, default=3.0, help="the busiest minutes, times the average")
    parser.add_argument(
        "--allowed", type=float, default=2.0, help="seconds for 95 %% of the requests, at the peak"
    )
    parser.add_argument("--cores", type=int, default=2, help="of a pod")
    parser.add_argument("--gpus", type=int, default=0, help="of a pod")
    parser.add_argument("--pod-hour", type=float, default=1.0, help="price of a pod for an hour")
    options = parser.parse_args(arguments)
    if options.url:
        times = measure(options.url.rstrip("/"), options.model, options.count)
    else:
        times = np.array(json.loads(options.times.read_text())["milliseconds"]) / 1e3
    if options.save:
        found = {"machine": machine(), "model": options.model, "milliseconds": (times * 1e3).round(3).tolist()}
        options.save.write_text(json.dumps(found) + "\n", encoding="utf-8")
    try:
        plans = [plan(times, rate * options.peak, options.allowed) for rate in options.rate]
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    _show(times, plans, options)
    return 0


def _show(times: Times, plans: Sequence[Plan], options: argparse.Namespace) -> None:
    p95 = np.quantile(times, SHARE) * 1e3
    console.print(
        f"{len(times)} clips: {times.mean() * 1e3:.0f} ms on average, 95 % within {p95:.0f} ms alone; "
        f"95 % within {options.allowed:g} s at {options.peak:g} times the average rate"
    )
    table = Table("clips/s", "pods", "cores", "GPUs", "busy at peak", "95 % within, s: formula", "simulated")
    for heading in ("cost of 10^6 clips", "with scaling"):
        table.add_column(heading)
    for rate, each in zip(options.rate, plans, strict=True):
        # With perfect scaling only what the average needs runs.
        least = plan(times, rate, options.allowed).pods
        row = asdict(each)
        table.add_row(
            *(f"{rate:g}", str(each.pods), str(each.pods * options.cores), str(each.pods * options.gpus)),
            *(f"{each.busy:.0%}", f"{row['formula_seconds']:.2f}", f"{row['simulated_seconds']:.2f}"),
            *(f"{cost_per_million(pods, options.pod_hour, rate):.2f}" for pods in (each.pods, least)),
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
