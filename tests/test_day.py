"""Promise: the day that `benchmarks.day` plays has the load, the odd files and the count that it says."""

from __future__ import annotations

import numpy as np
import pytest
from actionrec.errors import ClipError
from actionrec.spec import ClipSpec
from actionrec.video.decode import decode

from benchmarks.day import BURST_HOURS, BURSTS, Day, Sent, odd_files, summary

DAY = Day(86_400.0, 2.0)
ARRIVALS = np.array(DAY.arrivals())


@pytest.mark.parametrize("hour", [3, 9, 15, 20])
def test_an_hour_has_the_requests_of_its_rate(hour: int) -> None:
    """Few at night, many in the afternoon."""
    wanted = np.mean([DAY.rate(hour + part) for part in np.linspace(0, 1, 100)]) * 3600
    found = ((hour <= ARRIVALS) & (hour + 1 > ARRIVALS)).sum()
    assert found == pytest.approx(wanted, rel=0.06)
    assert DAY.rate(3) == pytest.approx(0.4)
    assert DAY.rate(15) == pytest.approx(3.6)


@pytest.mark.parametrize("begin", BURSTS)
def test_a_burst_is_twice_as_much(begin: float) -> None:
    """From its first moment to its last."""
    before, within = (
        ((first <= ARRIVALS) & (first + BURST_HOURS > ARRIVALS)).sum() for first in (begin - BURST_HOURS, begin)
    )
    assert within / before == pytest.approx(2.0, rel=0.15)


def test_requests_come_in_order_and_within_the_day() -> None:
    """And the same seed gives the same day."""
    assert (np.diff(ARRIVALS) >= 0).all()
    assert ARRIVALS[-1] < 24.0
    assert Day(600.0, 2.0, 1).arrivals() == Day(600.0, 2.0, 1).arrivals()


@pytest.mark.parametrize("data", odd_files(), ids=len)
def test_odd_files_are_refused(data: bytes) -> None:
    """Each is one that no server could classify."""
    with pytest.raises(ClipError):
        decode(data, ClipSpec(short_side=64, crop=64))


def test_a_request_is_in_one_row() -> None:
    """The rows of the day add up, and odd files do not count as answered quickly."""
    sent = [Sent(hour, 1.0 + hour, hour == 5, hour != 7, "x") for hour in range(24)]
    rows = list(summary(sent, {6.0: ("a restart", bool)}))
    assert [sum(row[name] for row in rows) for name in ("requests", "odd", "not as before")] == [24, 1, 1]
    assert rows[1]["longest ms"] == 5000.0
    assert [row["what happened"] for row in rows] == ["", "", "a restart", *[""] * 5]
