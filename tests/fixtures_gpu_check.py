"""A stage that has begun, for the tests of the checks of a GPU host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import stage as stages
from benchmarks.gpu.plan import MOTION, REHEARSAL, Deadline, Places
from benchmarks.gpu.record import Record
from export import artifacts

SECONDS = "3000"
"""For a stage: far more than it needs, on whatever machine."""
SMALL = ("--rehearse", "--models", MOTION, "--runtimes", artifacts.PORTABLE, "--seconds", SECONDS)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    return Places(tmp_path / "out", tmp_path / "work")


@pytest.fixture
def stage(places: Places) -> stages.Stage:
    """A rehearsal that has begun."""
    record = Record(places.out / "some.json", "some", {"on": "here"})
    host: dict[str, Any] = {"gpus": [], "machine": {}}
    return stages.Stage("some", REHEARSAL, places, Deadline(600), record, host)


def places_of(places: Places) -> list[str]:
    """The command line's words for them."""
    return ["--out", str(places.out), "--work", str(places.work)]
