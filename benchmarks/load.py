"""Load on servers: so many clients, each sending its next clip when it has its answer; subjects take turns.

While one has its turn the processes of the others are stopped. A server that polls for work while it has none
slows down all the others, and would seem the fastest itself.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from benchmarks.apart import PROJECT, Apart
from deploy.server import Settings, start, stop
from deploy.state import State

ROUNDS = 3
DEADLINE_SECONDS = 120


Classify = Callable[[requests.Session, bytes], None]
"""Sends a clip; raises where there is no answer."""


@dataclass(frozen=True)
class Subject:
    """Something that answers clips."""

    name: str
    classify: Classify
    clips: int = 1
    """Answered by one call."""
    alone: bool = False
    """One caller, whatever the number of clients."""
    pid: int | None = None
    """Of the server's first process, to stop it while others have their turn; None: it has none of its own."""


@contextmanager
def torchserve(store: Path, config: Path = PROJECT / "config.properties") -> Iterator[State]:
    """Every archive of a store, served until this ends.

    Args:
        store: folder of archives.
        config: the server's.

    Raises:
        DeployError: it does not start.
    """
    with tempfile.TemporaryDirectory() as home:
        run_dir = Path(home) / "run"
        settings = Settings(store, config=config, run_dir=run_dir, log_dir=Path(home) / "logs", port=0)
        try:
            yield start(settings)
        finally:
            stop(run_dir)


def raw(url: str) -> Classify:
    """What posts a clip as it is."""
    return lambda session, data: check(session.post(url, data=data, timeout=DEADLINE_SECONDS))


def process(name: str, child: Apart, clips: int = 1, head: bytes = b"") -> Subject:
    """A process that answers clips, so many at a time, without a server.

    Args:
        name: in the tables.
        child: does the job for each clip that it is sent.
        clips: that one call of it answers.
        head: goes before the clip.
    """

    def classify(_: requests.Session, data: bytes) -> None:
        child.ask(head + data)

    return Subject(name, classify, clips, alone=True)


def check(reply: requests.Response) -> None:
    """Raises RuntimeError where there is no answer."""
    if reply.status_code != 200 or b'"predictions"' not in reply.content:
        raise RuntimeError(f"{reply.status_code}: {reply.text[:200]}")


class Tally:
    """What subjects took, by number of clients."""

    def __init__(self) -> None:
        self.rates: dict[tuple[int, str], list[float]] = {}
        """(clients, subject) -> clips a second of each turn."""
        self._latencies: dict[tuple[int, str], list[float]] = {}

    def turn(self, subject: Subject, data: bytes, clients: int, count: int) -> None:
        """Load a subject and note what it took."""
        seconds, latencies = load(subject, data, clients, count)
        key = clients, subject.name
        self.rates.setdefault(key, []).append(len(latencies) * subject.clips / seconds)
        self._latencies.setdefault(key, []).extend(latencies)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each: median rate of its turns, and latencies of all calls."""
        return [
            {
                "clients": clients,
                "what": name,
                "clips/s": statistics.median(rates),
                "p50 ms": statistics.median(taken),
                "p99 ms": sorted(taken)[int(len(taken) * 0.99)],
            }
            for ((clients, name), rates), taken in zip(
                self.rates.items(), self._latencies.values(), strict=True
            )
        ]


def round_robin(subjects: Sequence[Subject], data: bytes, clients: int, count: int) -> list[dict[str, Any]]:
    """A row of `Tally` for each subject, after turns in which the others are stopped.

    A turn's first call is not counted. What a process has given back to a virtual machine's kernel the host may
    have taken, and to have it again costs seconds for a gigabyte.
    """
    tally = Tally()
    gc.collect()
    gc.freeze()  # or a collection of torch's objects falls into somebody's round
    try:
        for subject in subjects:
            _pause(subject)
        for number in range(ROUNDS + 1):
            for subject in subjects:
                _resume(subject)
                load(subject, data, 1, 1)
                if number:
                    tally.turn(subject, data, clients, count)
                else:  # the first round warms up
                    load(subject, data, clients, count)
                _pause(subject)
    finally:
        for subject in subjects:
            _resume(subject)
    return tally.rows()


def _pause(subject: Subject) -> None:
    """Stop a server's processes, parents first: a worker replaces a decoding child that it finds stopped."""
    for process in _processes(subject):
        with suppress(psutil.NoSuchProcess):
            process.suspend()


def _resume(subject: Subject) -> None:
    """Let them go on, children first."""
    for process in reversed(_processes(subject)):
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _processes(subject: Subject) -> list[psutil.Process]:
    if subject.pid is None:
        return []
    first = psutil.Process(subject.pid)
    return [first, *first.children(recursive=True)]


def load(subject: Subject, data: bytes, clients: int, count: int) -> tuple[float, list[float]]:
    """(seconds for all, milliseconds of each call) of `count` clips sent by so many clients."""
    if subject.alone:
        clients, count = 1, max(1, count // subject.clips)

    def client(number: int) -> list[float]:
        latencies = []
        with requests.Session() as session:
            for _ in range(number, count, clients):
                begun = time.perf_counter()
                subject.classify(session, data)
                latencies.append((time.perf_counter() - begun) * 1e3)
        return latencies

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        latencies = [ms for part in pool.map(client, range(clients)) for ms in part]
    return time.perf_counter() - begun, latencies
