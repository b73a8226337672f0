"""Promise: windows become the spans that they speak of; a flicker splits none, edges are where labels turn."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from actionrec.segments import Segment, segments
from hypothesis import given
from hypothesis import strategies as st

WINDOW = 64 / 30
Scores = npt.NDArray[np.float64]


def grid(count: int, stride: float, start: float = 0.0) -> list[tuple[float, float]]:
    return [(start + i * stride, start + i * stride + WINDOW) for i in range(count)]


def ideal_scores(
    windows: list[tuple[float, float]], cuts: list[float], labels: list[int], classes: int
) -> Scores:
    """Each window's score of a label is the share of the window that has it; all sure of what they see."""
    scores = np.zeros((len(windows), classes))
    bounds = [-np.inf, *cuts, np.inf]
    for label, first, last in zip(labels, bounds[:-1], bounds[1:], strict=True):
        for row, (start, end) in zip(scores, windows, strict=True):
            row[label] += max(0.0, min(end, last) - max(start, first)) / (end - start)
    return scores


WINDOWS = st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 10)), min_size=1, max_size=30).map(
    lambda pairs: [(start, start + length) for start, length in pairs]
)


@given(windows=WINDOWS, data=st.data())
def test_segments_of_anything(windows: list[tuple[float, float]], data: st.DataObject) -> None:
    """Whatever the windows, scores and cuts: in order, apart, inside the windows, scores probabilities."""
    classes = data.draw(st.integers(1, 5))
    seed = data.draw(st.integers(0, 2**31))
    scores = np.random.default_rng(seed).dirichlet(np.full(classes, 0.2), len(windows))
    cuts = data.draw(st.lists(st.floats(-10, 120), max_size=20))
    found = segments(windows, scores, cuts)
    assert found
    for segment in found:
        assert segment.start_seconds < segment.end_seconds
        assert 0 <= segment.class_index < classes
        assert -1e-9 <= segment.score <= 1 + 1e-9
    for before, after in pairwise(found):
        assert before.end_seconds <= after.start_seconds
        assert before.class_index != after.class_index or before.end_seconds < after.start_seconds
    assert found[0].start_seconds == min(start for start, _ in windows)
    assert found[-1].end_seconds == max(end for _, end in windows)


@given(windows=WINDOWS, seed=st.integers(0, 2**31))
def test_order_of_windows_plays_no_part(windows: list[tuple[float, float]], seed: int) -> None:
    """Windows of several requests may be put together in any order, and classes may have any order too."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.full(4, 0.2), len(windows))
    order, classes = rng.permutation(len(windows)), rng.permutation(4)
    mixed = segments([windows[i] for i in order], scores[order][:, classes])
    for a, b in zip(segments(windows, scores), mixed, strict=True):
        assert a.class_index == classes[b.class_index]
        assert (a.start_seconds, a.end_seconds) == (b.start_seconds, b.end_seconds)
        assert a.score == pytest.approx(b.score)


@given(
    stride=st.floats(0.1, 1.0),
    lengths=st.lists(st.floats(1.5 * WINDOW, 15), min_size=1, max_size=6),
    seed=st.integers(0, 2**31),
)
def test_edges_of_sure_windows_lie_within_a_stride(stride: float, lengths: list[float], seed: int) -> None:
    """Where windows are right, labels come back in order, each edge less than a stride from the change."""
    labels = [(seed + i) % 5 for i in range(len(lengths))]
    ends = np.cumsum(lengths)
    windows = grid(max(1, int((ends[-1] - WINDOW) / stride) + 1), stride)
    found = segments(windows, ideal_scores(windows, ends[:-1].tolist(), labels, 5))
    assert [s.class_index for s in found] == labels
    for segment, cut in zip(found, ends[:-1], strict=False):
        assert abs(segment.end_seconds - cut) < stride


@given(
    stride=st.floats(0.1, WINDOW / 2),
    label=st.integers(0, 3),
    other=st.integers(0, 3),
    at=st.floats(0.2, 0.8),
    sure=st.floats(0.5, 1.0),
)
def test_a_flicker_splits_nothing(stride: float, label: int, other: int, at: float, sure: float) -> None:
    """One of windows that overlap by half or more makes no segment of its own, however sure it is."""
    windows = grid(int(20 / stride), stride)
    scores = np.full((len(windows), 4), 0.02)
    scores[:, label] = 0.94
    place = int(at * len(windows))
    scores[place] = (1 - sure) / 4
    scores[place, other] += sure
    (only,) = segments(windows, scores)
    assert only.class_index == label
    assert (only.start_seconds, only.end_seconds) == (windows[0][0], windows[-1][1])


def test_windows_that_straddle_a_change_may_say_anything() -> None:
    """Two labels with windows of a third one in between are still two, with the edge at the change."""
    windows = grid(20, 0.5)
    cut = 5.2
    scores = ideal_scores(windows, [cut], [0, 1], 3)
    for row, (start, end) in zip(scores, windows, strict=True):
        if start + 0.3 < cut < end - 0.3:
            row[:] = (0.05, 0.05, 0.9)
    first, second = segments(windows, scores)
    assert (first.class_index, second.class_index) == (0, 1)
    assert first.end_seconds == second.start_seconds == pytest.approx(cut, abs=0.5)


def test_missing_windows_end_a_segment() -> None:
    """A stretch that no window sees belongs to no segment, and one that neighbours see goes on."""
    windows = grid(24, 0.5)
    scores = np.tile([0.9, 0.1], (24, 1))
    some = [i for i in range(24) if i not in (8, 9)]
    assert len(segments([windows[i] for i in some], scores[some])) == 1
    few = [i for i in range(24) if not 6 <= i < 14]
    before, after = segments([windows[i] for i in few], scores[few])
    assert (before.start_seconds, before.end_seconds) == pytest.approx((0, 2.5 + WINDOW))
    assert (after.start_seconds, after.end_seconds) == pytest.approx((7.0, 11.5 + WINDOW))


def test_a_stride_longer_than_a_window() -> None:
    """Samples far apart make one segment where they agree; what lies between two labels belongs to neither."""
    windows = grid(6, 5.0)
    scores = np.eye(2)[[0, 0, 0, 1, 1, 1]] * 0.9 + 0.05
    first, second = segments(windows, scores)
    assert replace(first, score=0.95) == Segment(0, 0.0, 10 + WINDOW, 0.95)
    assert replace(second, score=0.95) == Segment(1, 15.0, 25 + WINDOW, 0.95)
    assert (first.score, second.score) == pytest.approx((0.95, 0.95))


def test_scores_that_are_not_known() -> None:
    """With the best label of each window only, as replies with top_k=1 have it, the segments are the same."""
    windows = grid(30, 0.5)
    scores = ideal_scores(windows, [5.0, 9.5], [2, 0, 1], 3) * 0.9 + 0.03
    best = np.where(scores == scores.max(axis=1, keepdims=True), scores, 0)
    for whole, known in zip(segments(windows, scores), segments(windows, best), strict=True):
        assert whole.class_index == known.class_index
        assert whole.start_seconds == pytest.approx(known.start_seconds, abs=0.5)


def test_nothing_and_nonsense() -> None:
    """No windows, no segments; shapes that do not fit are refused with both."""
    assert segments([], np.empty((0, 3))) == []
    with pytest.raises(ValueError, match="2 windows"):
        segments(grid(2, 1.0), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="end after they start"):
        segments([(1.0, 1.0)], np.zeros((1, 2)))


def test_a_client_can_use_it() -> None:
    """It imports neither torch nor PyAV nor OpenCV, so that a client can merge replies with it."""
    code = "import actionrec.segments, sys; print({'torch', 'av', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
