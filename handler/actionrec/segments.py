"""Scores of a timeline's windows -> spans of one label each. Pure; numpy alone, so that clients can use it too.

    windows      [---- A ----)
                    [---- A ----)
                       [-- A or B --)                  straddles the change, so it may say anything
                          [---- B ----)
                             [---- B ----)
    evidence     A  A  A  A A A/B B  B  B  B  B        of an instant
    segments     [------ A ------)[----- B -----)

The evidence of an instant is the mean score of the windows that see it, weighted by how near their middles are:
from 1 for a window with the instant in its middle down to 0 at its ends.

The labels of all instants are chosen together: those with the most evidence, less `CHANGE_COST` for every
change (the Viterbi path, which is hysteresis that looks both ways). So where windows overlap by half or more,
one that says something else does not split a segment, and a change is put where the evidence turns.

Where one action outshines the other in windows that see both, that is late or early. But in an edited video an
action mostly ends with the shot, so where a shot boundary is near, the edge is put there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

CHANGE_COST = 1.2
"""What a change of label has to gain, in nats. A window that stands alone weighs its log score once."""

SCORE_FLOOR = 0.02
"""Lower scores count as this one: no window may rule a label out for its neighbours."""

FARTHEST_SHOT_BOUNDARY = 0.5
"""Of a window's length; an edge is moved to no shot boundary that is further away (benchmarks/edges.py)."""

_CUT_SECONDS = 0.2
"""Windows differ about a shot boundary by less than the time from one sampled frame to the next, at most 0.1 s
in the published recipe. Two of them are further apart than that (`video.shot_boundaries._BESIDE`)."""

_LEAST_WEIGHT = 1e-9
"""At the very ends of a window: it is seen, and where nothing else sees it, this decides."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of video with one label."""

    class_index: int
    start_seconds: float
    end_seconds: float
    score: float
    """Mean of the label's score over the segment's instants, 0 to 1."""

    def to_dict(self, label: str) -> dict[str, Any]:
        """As it stands in a reply, with the name of its class."""
        return {
            "label": label,
            "class_index": self.class_index,
            "start_seconds": round(self.start_seconds, 3),
            "end_seconds": round(self.end_seconds, 3),
            "score": round(self.score, 6),
        }


def segments(
    windows: Sequence[tuple[float, float]], scores: Floats, shot_boundaries: Sequence[float] = ()
) -> list[Segment]:
    """Merge windows into segments.

    Instants that no window sees belong to a segment only where the stretch is no longer than the timeline's
    stride and the label is the same on both sides; so a segment ends where windows are missing.

    Args:
        windows: (start, end) of each in seconds, ends after starts; in any order, from any number of requests
            for the same video. Those that could not be decoded are left out.
        scores: [windows, classes], probabilities; 0 for classes whose score is not known.
        shot_boundaries: when the picture changes at once, in seconds.

    Returns:
        Segments in order, none overlapping another, no two neighbours that touch with one label.

    Raises:
        ValueError: the shapes do not fit, or a window ends before it starts.
    """
    values = np.asarray(scores, dtype=np.float64)
    spans = np.asarray(windows, dtype=np.float64).reshape(-1, 2)
    if values.ndim != 2 or len(values) != len(spans):
        raise ValueError(f"scores must be [{len(spans)}, classes] for {len(spans)} windows, got {values.shape}")
    if (spans[:, 1] <= spans[:, 0]).any():
        raise ValueError(f"windows must end after they start, got {windows}")
    if not len(spans):
        return []
    starts = np.unique(spans[:, 0])
    stride = float(np.median(np.diff(starts))) if len(starts) > 1 else 0.0
    edges, seen, evidence = _evidence(spans, values)
    weights = np.diff(edges) / np.median(spans[:, 1] - spans[:, 0])
    found: list[Segment] = []
    for first, stop in _stretches(edges, seen, stride):
        part = slice(first, stop)
        labels = _best_path(evidence[part], weights[part] * seen[part])
        found += _merge(labels, edges[first : stop + 1], seen[part], evidence[part])
    reach = FARTHEST_SHOT_BOUNDARY * float(np.median(spans[:, 1] - spans[:, 0]))
    return _at_shot_boundaries(found, shot_boundaries, reach)


def distinct(shot_boundaries: Iterable[float]) -> list[float]:
    """Cuts as several windows see them -> each once, in order.

    Each window knows the first frame of the shot that it samples itself, so the earliest is the nearest.
    """
    found: list[float] = []
    for seconds in sorted(shot_boundaries):
        if not found or seconds > found[-1] + _CUT_SECONDS:
            found.append(seconds)
    return found


def _evidence(spans: Floats, scores: Floats) -> tuple[Floats, npt.NDArray[np.bool_], Floats]:
    """The pieces between the windows' edges: the same windows see all of a piece.

    Returns:
        edges [pieces + 1] in seconds, whether any window sees a piece [pieces], mean scores [pieces, classes].
    """
    edges = np.unique(spans)
    middles = (edges[:-1] + edges[1:]) / 2
    first, stop = np.searchsorted(edges, spans[:, 0]), np.searchsorted(edges, spans[:, 1])
    sums = np.zeros((len(middles), scores.shape[1]))
    weights = np.zeros(len(middles))
    for (start, end), begin, last, row in zip(spans, first, stop, scores, strict=True):
        distance = np.abs(middles[begin:last] - (start + end) / 2)
        weight = np.maximum(1 - distance / ((end - start) / 2), _LEAST_WEIGHT)
        sums[begin:last] += weight[:, None] * row
        weights[begin:last] += weight
    seen = weights > 0
    return edges, seen, sums / np.where(seen, weights, 1)[:, None]


def _stretches(edges: Floats, seen: npt.NDArray[np.bool_], stride: float) -> list[tuple[int, int]]:
    """Runs of pieces (first, stop) that are parted by unseen ones longer than the stride."""
    holes = [i for i in range(len(seen)) if not seen[i] and edges[i + 1] - edges[i] > stride]
    bounds = [-1, *holes, len(seen)]
    return [(before + 1, hole) for before, hole in pairwise(bounds) if before + 1 < hole]


def _best_path(evidence: Floats, weights: Floats) -> npt.NDArray[np.int64]:
    """The label of each piece [pieces] that together have the most evidence, less the cost of changes."""
    gains = np.log(np.maximum(evidence, SCORE_FLOOR)) * weights[:, None]
    total = gains[0]
    came_from = np.empty(gains.shape, dtype=np.int64)
    own = np.arange(gains.shape[1])
    for piece in range(1, len(gains)):
        best = int(total.argmax())
        change = total[best] - CHANGE_COST > total
        came_from[piece] = np.where(change, best, own)
        total = np.where(change, total[best] - CHANGE_COST, total) + gains[piece]
    labels = np.empty(len(gains), dtype=np.int64)
    labels[-1] = total.argmax()
    for piece in range(len(gains) - 1, 0, -1):
        labels[piece - 1] = came_from[piece, labels[piece]]
    return labels


def _merge(
    labels: npt.NDArray[np.int64], edges: Floats, seen: npt.NDArray[np.bool_], evidence: Floats
) -> list[Segment]:
    """Neighbouring pieces with one label -> segments, which begin and end with a piece that is seen."""
    found = []
    changes = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    for first, stop in pairwise(changes):
        pieces = np.flatnonzero(seen[first:stop]) + first
        if not pieces.size:
            continue
        label = int(labels[first])
        lengths = edges[pieces + 1] - edges[pieces]
        score = float(np.average(evidence[pieces, label], weights=lengths))
        found.append(Segment(label, float(edges[pieces[0]]), float(edges[pieces[-1] + 1]), score))
    return found


def _at_shot_boundaries(found: list[Segment], shot_boundaries: Sequence[float], reach: float) -> list[Segment]:
    """The segments, with the edges between those that touch moved to the nearest shot boundary within `reach`
    seconds.
    """
    placed = list(found)
    for number, (before, after) in enumerate(pairwise(found)):
        edge = before.end_seconds
        # No further than the segments on both sides go, the first of which may have been moved already.
        least, most = placed[number].start_seconds, after.end_seconds
        near = [at for at in shot_boundaries if abs(at - edge) <= reach and least < at < most]
        if near and edge == after.start_seconds:
            edge = min(near, key=lambda at: abs(at - edge))
            placed[number] = replace(placed[number], end_seconds=edge)
            placed[number + 1] = replace(placed[number + 1], start_seconds=edge)
    return placed
