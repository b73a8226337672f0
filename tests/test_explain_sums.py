"""Promise: what is made of an explanation's shares, on steps, at instants or as a picture, keeps their sums."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actionrec_client import BadReply, Explanation
from actionrec_client.deletion import blanked, strongest
from actionrec_client.files.heat import HeatMap
from tests.helpers_explain import explanation, hot, reply, view

TIMES = st.lists(st.integers(0, 1999).map(lambda ms: ms / 1000), min_size=1, max_size=12).map(sorted)
"""Of steps, in seconds; replies have milliseconds."""


def shares_of(times: list[float], seed: int) -> tuple[list[float], np.ndarray]:
    return times, np.random.default_rng(seed).standard_normal((len(times), 3, 4)).astype(np.float32)


@given(TIMES, TIMES)
def test_sums_are_kept(slow: list[float], fast: list[float]) -> None:
    """On the finest steps, and added up over time, shares have their sum in each place, whatever the times: a
    variable rate, frames that are repeated, a window that the video ends before.
    """
    pathways = [shares_of(slow, 1), shares_of(fast, 2)]
    (found,) = explanation(view(pathways)).views
    places = sum(shares.sum(0, dtype=np.float64) for _, shares in pathways)
    assert np.allclose(found.cells().sum(0, dtype=np.float64), places, atol=1e-4)
    edges = found.edges()
    total = np.zeros((3, 4))
    for start, end in itertools.pairwise(edges):
        rates = found.rates((start + end) / 2)
        assert rates is not None
        total += rates * (end - start)
    assert np.allclose(total, places, atol=1e-3)
    assert found.cells().sum() + 0.5 == pytest.approx(found.logit, abs=1e-3)


@pytest.mark.parametrize("box", [(0, 0, 64, 64), (16, 8, 64, 32), (5.0, 3.0, 40.0, 80.0)])
def test_a_picture_keeps_the_sum(box: tuple[float, ...]) -> None:
    """The heat of all pixels is that of all places, times the pixels of a place; outside the box is none."""
    shares = np.random.default_rng(3).standard_normal((4, 4, 8)).astype(np.float32)
    found = explanation(view([([0.25, 0.75, 1.25, 1.75], shares)], box=box))
    heat, seen = HeatMap(found).rates((100, 120), 0.8)
    left, top, width, height = map(int, box)
    assert seen.sum() == width * height
    assert seen[top : top + height, left : left + width].all()
    assert not heat[~seen].any()
    rates = found.views[0].rates(0.8)
    assert rates is not None
    assert rates.sum() == pytest.approx(shares[1].sum() / 0.5, rel=1e-4)
    assert heat.sum(dtype=np.float64) == pytest.approx(rates.sum() * width * height / 32, rel=1e-4)


def test_steps_are_those_nearest_in_time() -> None:
    """At each instant a pathway has the step whose middle is nearest, and nothing outside the window."""
    slow, fast = [0.2, 1.5], [0.1, 0.3, 1.0, 1.9]
    (found,) = explanation(
        view([(slow, hot((2, 1, 1), (0, 0, 0))), (fast, hot((4, 1, 1), (2, 0, 0)))], end_seconds=2.0)
    ).views
    for seconds in np.arange(0, 2, 0.013):
        rates = found.pathway_rates(seconds)
        assert rates is not None
        for times, step, one in ((slow, 0, rates[0]), (fast, 2, rates[1])):
            nearest = int(np.abs(np.array(times) - seconds).argmin())
            assert (one[0, 0] > 0) == (nearest == step), seconds
    assert found.rates(2.0) is None
    assert found.rates(-0.1) is None


def test_the_peak() -> None:
    """It is the place and time with the most of both pathways; its point leans to where the neighbours are."""
    slow = hot((2, 4, 4), (1, 2, 1), share=3.0)
    fast = hot((4, 4, 4), (3, 2, 1), (0, 0, 0), share=2.0) + hot((4, 4, 4), (3, 2, 2), (3, 1, 1))
    peak = explanation(
        view([([0.5, 1.5], slow), ([0.25, 0.75, 1.25, 1.75], fast)], box=(100, 50, 80, 80))
    ).peak()
    assert (peak.view, peak.start_seconds, peak.end_seconds) == (0, 1.5, 2.0)
    assert peak.cell == (120, 90, 20, 20)
    assert 130 < peak.x < 140
    assert 90 < peak.y < 100


def test_several_views() -> None:
    """What is said of several views is their mean, and the peak is the strongest of all."""
    views = [
        view([([1.0], hot((1, 2, 2), (0, 0, 0), share=1.0))], box=(0, 0, 10, 10)),
        view([([1.0], hot((1, 2, 2), (0, 1, 1), share=3.0))], box=(20, 0, 10, 10), crop=1),
    ]
    found = explanation(*views)
    assert found.logit == pytest.approx(2.5)
    assert found.pathway_sums() == [2.0]
    assert found.bias + sum(found.pathway_sums()) == pytest.approx(found.logit)
    assert (found.peak().view, found.peak().cell) == (1, (25, 5, 5, 5))


def test_the_strongest_tenth() -> None:
    """It has as many cells as a tenth of all, those with the largest shares, and at least one."""
    cells = np.random.default_rng(0).permutation(256).reshape(16, 4, 4).astype(np.float32)
    chosen = strongest(cells)
    assert chosen.sum() == 26
    assert cells[chosen].min() > cells[~chosen].max()
    assert strongest(np.zeros((1, 2, 2), np.float32)).sum() == 1


def test_blanking() -> None:
    """Of each frame those pixels are grey that the chosen cells stand for, and the others stay."""
    frames = np.random.default_rng(0).integers(120, 255, (32, 64, 64, 3), dtype=np.uint8)
    cells = hot((16, 4, 4), (3, 0, 1), (15, 3, 3)) > 0
    grey = blanked(frames, cells, 115)
    mask = (grey == 115).all(3)
    assert mask[6:8, :16, 16:32].all()
    assert mask[30:, 48:, 48:].all()
    assert mask.sum() == 2 * 2 * 16 * 16
    assert np.array_equal(grey[~mask], frames[~mask])


def without(name: str) -> dict[str, Any]:
    entry = view([([1.0], hot((1, 2, 2), (0, 0, 0)))])
    del entry[name]
    return reply(entry)


@pytest.mark.parametrize(
    "values",
    [
        {},
        reply(),
        without("box"),
        without("pathways"),
        reply({**view([([1.0], hot((1, 2, 2)))]), "pathways": []}),
        reply({**view([([1.0], hot((1, 2, 2)))]), "box": [1, 2]}),
        reply(view([([1.0, 2.0], hot((1, 2, 2)))])),
        reply(view([([1.0], hot((1, 2, 2))), ([1.0], hot((1, 3, 3)))])),
        reply(
            {
                **view([]),
                "pathways": [{"shape": [1, 9, 9], "seconds": [1.0], "shares": "AAAA"}],
            }
        ),
        reply({**view([]), "pathways": [{"shape": [1, 1, 1], "seconds": [1.0], "shares": "!!"}]}),
    ],
)
def test_an_explanation_of_another_form(values: dict[str, Any]) -> None:
    """What lacks a field, or whose arrays do not fit, is a bad reply and not a KeyError."""
    with pytest.raises(BadReply, match="explanation"):
        Explanation.from_dict(values)
