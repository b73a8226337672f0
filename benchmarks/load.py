"""Load on servers: a number of clients, each of which sends its next clip when it has its answer. Subjects take
turns.

While one subject has its turn, the processes of all others are stopped. A server that polls for work would
otherwise slow down all the others, and seem the fastest itself.
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
"""Sends a clip; raises RuntimeError or a requests exception where there is no answer."""


@dataclass(frozen=True)
class Subject:
    """Something to measure, which answers clips."""

    name: str
    classify: Classify
    clips: int = 1
    """Clips that one call answers."""
    alone: bool = False
    """Whether it has one caller, whatever the number of clients."""
    pid: int | None = None
    """Pid of the server's first process, to stop it during others' turns; None: there is no server."""


@contextmanager
def torchserve(store: Path, config: Path = PROJECT / "config.properties") -> Iterator[State]:
    """Serve every archive of a store until the context ends.

    Args:
        store: folder of archives.
        config: the server's configuration.

    Raises:
        DeployError: the server does not start.
    """
    with tempfile.TemporaryDirectory() as home:
        run_dir = Path(home) / "run"
        settings = Settings(store, config=config, run_dir=run_dir, log_dir=Path(home) / "logs", port=0)
        try:
            yield start(settings)
        finally:
            stop(run_dir)


def raw(url: str) -> Classify:
    """A function that posts a clip as the plain body."""
    return lambda session, data: check(session.post(url, data=data, timeout=DEADLINE_SECONDS))


def process(name: str, child: Apart, clips: int = 1, head: bytes = b"") -> Subject:
    """A subject that is a process without a server.

    Args:
        name: its name in the tables.
        child: the process, which does the job for each clip that it is sent.
        clips: clips that one call answers.
        head: bytes that go before the clip.
    """

    def classify(_: requests.Session, data: bytes) -> None:
        child.ask(head + data)

    return Subject(name, classify, clips, alone=True)


def check(reply: requests.Response) -> None:
    """Check a reply. Raises RuntimeError where it is no prediction."""
    if reply.status_code != 200 or b'"predictions"' not in reply.content:
        raise RuntimeError(f"{reply.status_code}: {reply.text[:200]}")


class Tally:
    """The measured times of all subjects, by number of clients."""

    def __init__(self) -> None:
        self.rates: dict[tuple[int, str], list[float]] = {}
        """(clients, subject) -> clips a second of each turn."""
        self._latencies: dict[tuple[int, str], list[float]] = {}

    def turn(self, subject: Subject, data: bytes, clients: int, count: int) -> None:
        """Load a subject and record its times."""
        seconds, latencies = load(subject, data, clients, count)
        key = clients, subject.name
        self.rates.setdefault(key, []).append(len(latencies) * subject.clips / seconds)
        self._latencies.setdefault(key, []).extend(latencies)

    def rows(self) -> list[dict[str, Any]]:
        """One row per subject and number of clients: median rate of its turns, and latencies of all calls."""
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
    """A row of `Tally` for each subject; all others are stopped during its turns.

    A turn's first call is not counted. In a virtual machine the host may have taken freed memory, and to get a
    gigabyte back takes seconds.
    """
    tally = Tally()
    gc.collect()
    gc.freeze()  # or a collection of torch's objects would fall into somebody's turn
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
    """Let a server's processes continue, children first."""
    for process in reversed(_processes(subject)):
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _processes(subject: Subject) -> list[psutil.Process]:
    if subject.pid is None:
        return []
    first = psutil.Process(subject.pid)
    return [first, *first.children(recursive=True)]


def load(subject: Subject, data: bytes, clients: int, count: int) -> tuple[float, list[float]]:
    """Send `count` clips from a number of clients: (seconds for all, milliseconds of each call)."""
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
