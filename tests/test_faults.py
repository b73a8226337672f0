"""Promise: what goes wrong at night, in short: `make faults` and `make soak` do the same for longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.conftest import pack
from tests.faults import attackers, faults, operations
from tests.faults.harness import Verdict, serving
from tests.faults.soak import COUNT, MEMORY_MB, Sample, growing, growth, watch

pytestmark = pytest.mark.server

SEED = 7

LEAKS = """
import os, tempfile, threading

KEPT = []

class Leaks:
    def initialize(self, context): pass
    def handle(self, data, context):
        for _ in data:
            handle, _ = tempfile.mkstemp()
            KEPT.append((os.urandom(2_000_000), handle))
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return [b"ok" for _ in data]
"""
HONEST = """
import tempfile

class Honest:
    def initialize(self, context): pass
    def handle(self, data, context):
        with tempfile.TemporaryFile():
            pass
        return [b"ok" for _ in data]
"""
# Java's own growth in its first seconds says nothing.
OF_WORKERS = {
    "workers_mb": MEMORY_MB,
    "workers_descriptors": COUNT,
    "workers_threads": COUNT,
    "temporary_files": COUNT,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (partial(faults.overload, queue=8), 10),
        (faults.poison, 12),
        (operations.new_version, 9),
        (operations.stopped, 5),
    ],
)
def test_fault(fault: Callable[[Path, float, int], Verdict], seconds: float, motion_archive: Path) -> None:
    """Under overload, among poison, during a change of versions and at a stop no request is lost."""
    verdict = fault(motion_archive, seconds, SEED)
    assert not verdict.broken, verdict


def test_attackers(motion_archive: Path) -> None:
    """Beside files that are slow to open or have very many frames every honest clip has its right answer, and
    most of them in their time: before there were budgets, a tenth was left.
    """
    names = ("programs", "frames")
    verdict = attackers.attackers(motion_archive, 6, SEED, names, fronts=(True,))
    assert not [promise for promise in verdict.broken if "right answer" in promise], verdict
    for name in names:
        assert float(verdict.figures[f"{name}, named: of these, attacked"]) > 0.3, verdict


@pytest.mark.slow
def test_killed_workers(motion_archive: Path) -> None:
    """Three workers killed under load: every request is answered, and the workers are back."""
    verdict = faults.killed_workers(motion_archive, 18, SEED, ready_seconds=60)
    assert not verdict.broken, verdict


@pytest.mark.parametrize(("handler", "leaks"), [(LEAKS, True), (HONEST, False)])
def test_the_soak_finds_a_leak(tmp_path: Path, handler: str, leaks: bool) -> None:
    """Memory, descriptors, threads and files leaked on purpose are found; an honest handler is flat."""
    archive = pack("soaked", handler, tmp_path / "store")
    with serving(archive, workers=1) as (state, _):

        def load(until: Callable[[], bool]) -> None:
            while not until():
                requests.post(state.predict_url(), data=b"clip", timeout=60).close()
                time.sleep(0.02)  # enough of a leak, without filling the machine

        samples = watch(state, load, 8, 0.25)
    assert set(growing(samples, OF_WORKERS)) == (set(OF_WORKERS) if leaks else set())


def test_growth_of_made_up_samples() -> None:
    """A slope counts, a peak, a step in the warm-up and noise do not."""

    def of(values: list[float]) -> float:
        return growth([Sample(float(second), {"x": value}) for second, value in enumerate(values)], "x")

    assert of([100.0 + second for second in range(100)]) == pytest.approx(59)
    assert of([0.0] * 40 + [100.0] * 60) == 0
    assert abs(of([100.0 + (second % 7) for second in range(100)])) < 1
    assert of([100.0] * 70 + [900.0] + [100.0] * 29) == 0
