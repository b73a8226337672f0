"""The cost of receiving a clip by the way it is sent: as it is, as a form, and as a form that is not declared
as one.

The model answers at once. TorchServe parses declared forms in Java. The handler recognises a form by its first
bytes (`actionrec.body`); nginx passes forms on in that way.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import requests

from actionrec_client.transport import Body, Transport
from benchmarks.archives import null_archive
from benchmarks.load import ROUNDS, check, torchserve
from benchmarks.measure import report
from benchmarks.peers import NULL

SIZES = (500_000, 2_000_000, 19_000_000)
"""Bytes: a clip of some seconds, one of 1080p, one of 4K."""
REQUESTS = 10
"""Requests of each kind in each round."""


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder, torchserve(null_archive(Path(folder))) as state:
        url = state.predict_url(NULL)
        java = psutil.Process(state.process.pid)
        for size in SIZES:
            kinds = _kinds(url, bytes(size))
            taken: dict[str, list[float]] = {name: [] for name in kinds}
            used: dict[str, list[float]] = {name: [] for name in kinds}
            for number in range(ROUNDS + 1):  # the first one warms up
                for name, send in kinds.items():
                    cpu = _cpu_ms(java)
                    for _ in range(REQUESTS):
                        begun = time.perf_counter()
                        send()
                        if number:
                            taken[name].append((time.perf_counter() - begun) * 1e3)
                    if number:
                        used[name].append((_cpu_ms(java) - cpu) / REQUESTS)
            rows += [
                {
                    "MB": size / 1e6,
                    "sent": name,
                    "p50 ms": statistics.median(taken[name]),
                    "of the JVM's CPU, ms": statistics.median(used[name]),
                }
                for name in kinds
            ]
    report("upload", "Taking in a clip, by how it is sent", rows)


def _kinds(url: str, video: bytes) -> dict[str, Callable[[], object]]:
    session = requests.Session()
    transport = Transport(None, 60.0)
    return {
        "as it is": lambda: check(session.post(url, data=video)),
        "as a form": lambda: check(session.post(url, files={"video": video}, data={"top_k": "1"})),
        "as a form, by our client": lambda: transport.once("POST", url, Body({"top_k": "1"}, video)),
    }


def _cpu_ms(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system) * 1e3


if __name__ == "__main__":
    main()
