"""Pictures of results: a timeline's labels over time, an explanation's shares over time, a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..explanation import Explanation
from ..results import Timeline

_MOST_ROWS = 12
_NAMED_CLASSES = 40
_NAMED_SHARE = 0.03
"""Of the whole time. A shorter segment has no room for its score."""
_DPI = 150
_COLOURS = "#4269d0 #efb118 #ff725c #6cc5b0 #3ca951 #ff8ab7 #a463f2 #97bbf5 #9c6b4e #9498a0".split()
_INK, _FAINT = "#333333", "#dddddd"


def plot_timeline(timeline: Timeline, path: Path, title: str = "") -> None:
    """Draw a timeline with a row for each label: its segments as bars, its score in each window as a line.

    Args:
        timeline: with at least one segment.
        path: of the picture; its suffix names the format.
        title: above it.
    """
    rows = _rows(timeline)
    names = [timeline_label for timeline_label, _ in rows]
    figure = Figure(figsize=(10, 1.3 + 0.5 * len(rows)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Axes = figure.subplots()
    first, last = timeline.windows[0].start_seconds, timeline.windows[-1].end_seconds
    whole = last - first
    for row, (_, index) in enumerate(rows):
        colour = _COLOURS[row % len(_COLOURS)]
        base = len(rows) - 1 - row
        axes.axhline(base, color=_FAINT, linewidth=0.8, zorder=0)
        middles, scores = _scores(timeline, index)
        axes.fill_between(middles, base, base + 0.85 * scores, color=colour, alpha=0.25, linewidth=0)
        axes.plot(middles, base + 0.85 * scores, color=colour, linewidth=1)
        for segment in timeline.segments:
            if segment.class_index == index:
                span = segment.end_seconds - segment.start_seconds
                axes.barh(base - 0.09, span, 0.14, left=segment.start_seconds, color=colour)
                if span >= _NAMED_SHARE * whole:
                    where = (segment.start_seconds + span / 2, base + 0.3)
                    axes.annotate(
                        f"{segment.score:.2f}", where, ha="center", va="center", fontsize=8, color=_INK
                    )
    axes.set_yticks([len(rows) - 1 - row + 0.25 for row in range(len(rows))], names)
    axes.set_ylim(-0.3, len(rows))
    axes.set_xlim(first, last)
    axes.set_xlabel("seconds")
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=_INK)
    _plain(axes)
    figure.savefig(path)


def plot_explanation(explanation: Explanation, path: Path, title: str = "") -> None:
    """Draw when a video speaks for a label: a curve for each pathway, and one for their sum.

    The area under a curve is what the pathway adds to the logit.

    Args:
        explanation: its views are averaged.
        path: of the picture; its suffix names the format.
        title: above it.
    """
    figure = Figure(figsize=(10, 3.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Axes = figure.subplots()
    edges = np.unique(np.concatenate([view.edges() for view in explanation.views]))
    rates = _rates(explanation, (edges[:-1] + edges[1:]) / 2)
    sums = explanation.pathway_sums()
    for name, added, curve, colour in zip(explanation.pathway_names, sums, rates, _COLOURS, strict=False):
        axes.stairs(curve, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(curve, edges, baseline=None, color=colour, linewidth=1.4, label=f"{name}: {added:+.2f}")
    if len(sums) > 1:
        label = f"together: {sum(sums):+.2f}"
        axes.stairs(rates.sum(0), edges, baseline=None, color=_INK, linewidth=1.2, linestyle=":", label=label)
    axes.axhline(0, color=_INK, linewidth=0.8)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("seconds")
    axes.set_ylabel("logits a second")
    axes.legend(frameon=False, fontsize=9)
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=_INK)
    _plain(axes)
    figure.savefig(path)


def plot_confusion(confusion: np.ndarray, labels: Sequence[str], path: Path, title: str = "") -> None:
    """Draw which label is taken for which.

    Args:
        confusion: int64 [classes, classes]: the true class, then the one that was said.
        labels: of the classes; named on the axes where there are few enough to read.
        path: of the picture.
        title: above it.
    """
    count = len(labels)
    size = 3.2 + 0.42 * min(count, 2 * _NAMED_CLASSES) if count <= _NAMED_CLASSES else 9.0
    figure = Figure(figsize=(size, size), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if count <= _NAMED_CLASSES:
        axes.set_xticks(range(count), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
        axes.set_yticks(range(count), labels, fontsize=9)
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if share[row, column] > 0.5 else _INK
            number = str(int(confusion[row, column]))
            axes.text(column, row, number, ha="center", va="center", fontsize=8, color=colour)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.set_xlabel("what the model says")
    axes.set_ylabel("what it is")
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.tick_params(length=0)
    figure.savefig(path)


def _rows(timeline: Timeline) -> list[tuple[str, int]]:
    """(label, class) of each row, in the order of their first segments. Of many only the longest have a row."""
    seconds: dict[tuple[str, int], float] = {}
    for segment in timeline.segments:
        key = (segment.label, segment.class_index)
        seconds[key] = seconds.get(key, 0.0) + segment.end_seconds - segment.start_seconds
    longest = sorted(seconds, key=lambda key: -seconds[key])[:_MOST_ROWS]
    return [key for key in seconds if key in longest]


def _scores(timeline: Timeline, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Middle of each window in seconds, and the score of a class in it; 0 where it is not among the best."""
    middles, scores = [], []
    for window in timeline.windows:
        middles.append((window.start_seconds + window.end_seconds) / 2)
        found = [p.score for p in window.predictions if p.class_index == index]
        scores.append(found[0] if found else (0.0 if window.predictions else np.nan))
    return np.array(middles), np.array(scores)


def _rates(explanation: Explanation, moments: np.ndarray) -> np.ndarray:
    """What each pathway adds at each moment, the mean over the views: float64 [pathways, moments], in logits a
    second.
    """
    rates = np.zeros((len(explanation.pathway_names), len(moments)))
    for view in explanation.views:
        for number, seconds in enumerate(moments):
            at_once = view.pathway_rates(float(seconds))
            if at_once is not None:
                rates[:, number] += [float(one.sum()) for one in at_once]
    return rates / len(explanation.views)


def _plain(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=10, labelcolor=_INK)
    axes.tick_params(axis="x", labelsize=9, colors=_INK)
