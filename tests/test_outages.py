"""Promise: everything that can die or hang comes back, and what only looks like it is let be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import outages

pytestmark = pytest.mark.slow


def test_each_outage_ends(motion_archive: Path) -> None:
    """Each fault of the real handler once; `make faults` holds them to 15 s on an idle machine."""
    verdict = outages.outages(motion_archive, 1, 1, limit=outages.PATIENCE_SECONDS - 1)
    assert not verdict.broken, verdict


def test_no_false_alarms(motion_archive: Path) -> None:
    """A request that computes for 20 s and a model that loads for as long are no faults."""
    verdict = outages.false_alarms(motion_archive, 60, 1)
    assert not verdict.broken, verdict
