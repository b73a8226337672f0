"""Scores of a timeline's windows -> segments. Pure arithmetic in numpy alone, so that clients can use it too.

    windows      [---- A ----)
                    [---- A ----)
                       [-- A or B --)                  straddles the change, so it may say anything
                          [---- B ----)
                             [---- B ----)
    evidence     A  A  A  A A A/B B  B  B  B  B        of an instant
    segments     [------ A ------)[----- B -----)

The evidence of an instant is the mean score of the windows that contain it, weighted by how near their middles
are: from 1 for a window with the instant in its middle down to 0 at its ends.

The labels of all instants are chosen together: the sequence with the most evidence, less `CHANGE_COST` for
every change (the Viterbi path: hysteresis in both directions). So where windows overlap by half or more, one
window with another label does not split a segment, and a change lies where the evidence turns.

Where one action outweighs the other in windows that contain both, that is too late or too early. But in an
edited video most actions end with the shot, so an edge near a shot boundary is moved there.
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
"""Evidence that a change of label must gain, in nats. A window that stands alone counts its log score once."""

SCORE_FLOOR = 0.02
"""Lower scores count as this one: no window may rule out a label for its neighbours."""

FARTHEST_SHOT_BOUNDARY = 0.5
"""How far an edge may be moved to a shot boundary, as a share of a window's length (benchmarks/edges.py)."""

_SAME_SECONDS = 0.2
"""Shot boundaries of two windows that are no further apart are one: windows see it up to one sampling step
late, which is at most 0.1 s in the published recipe. Real ones are further apart
(`video.shot_boundaries._BESIDE`)."""

_LEAST_WEIGHT = 1e-9
"""Weight at the very ends of a window: too little to matter, unless no other window contains the instant."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of a video with one label."""

    class_index: int
    start_seconds: float
    end_seconds: float
    score: float
    """Mean of the label's score over the segment's instants, 0 to 1."""

    def to_dict(self, label: str) -> dict[str, Any]:
        """One entry of a reply's ``segments``; `label` is the name of the class."""
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

    Instants outside of all windows belong to a segment only where the gap is no longer than the timeline's
    stride and the label is the same on both sides. So a segment ends where windows are missing.

    Args:
        windows: (start, end) of each in seconds, end after start; in any order, from any number of requests for
            the same video, without those that could not be decoded.
        scores: [windows, classes], probabilities; 0 for classes whose score is not known.
        shot_boundaries: seconds at which the picture changes at once.

    Returns:
        Segments in order, without overlap; two that touch differ in label.

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
    """Shot boundaries of several windows -> each once, in order. In seconds.

    Each window reports its own first sampled frame of the new shot, so the earliest report is the nearest.
    """
    found: list[float] = []
    for seconds in sorted(shot_boundaries):
        if not found or seconds > found[-1] + _SAME_SECONDS:
            found.append(seconds)
    return found


def _evidence(spans: Floats, scores: Floats) -> tuple[Floats, npt.NDArray[np.bool_], Floats]:
    """Mean scores of the pieces between the windows' edges: each window contains all of a piece or none of it.

    Returns:
        edges [pieces + 1] in seconds, whether any window contains a piece [pieces], mean scores [pieces,
        classes].
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
    """Runs of pieces (first, stop), separated by gaps longer than the stride."""
    holes = [i for i in range(len(seen)) if not seen[i] and edges[i + 1] - edges[i] > stride]
    bounds = [-1, *holes, len(seen)]
    return [(before + 1, hole) for before, hole in pairwise(bounds) if before + 1 < hole]


def _best_path(evidence: Floats, weights: Floats) -> npt.NDArray[np.int64]:
    """The label of each piece [pieces]: the sequence with the most evidence, less the cost of its changes."""
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
    """Neighbouring pieces with one label -> segments, which begin and end with a piece that a window
    contains.
    """
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
    """The segments, where each edge between two that touch is moved to the nearest shot boundary within `reach`
    seconds.
    """
    placed = list(found)
    for number, (before, after) in enumerate(pairwise(found)):
        edge = before.end_seconds
        # The edge stays between the outer ends of its two segments; the first may have been moved already.
        least, most = placed[number].start_seconds, after.end_seconds
        near = [at for at in shot_boundaries if abs(at - edge) <= reach and least < at < most]
        if near and edge == after.start_seconds:
            edge = min(near, key=lambda at: abs(at - edge))
            placed[number] = replace(placed[number], end_seconds=edge)
            placed[number + 1] = replace(placed[number + 1], start_seconds=edge)
    return placed
