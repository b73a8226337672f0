"""A copy of a video with the label and score of each moment drawn in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from ..results import Timeline
from .draw import Picture, draw_labels
from .redraw import redraw


def annotate(
    source: Path, timeline: Timeline, output: Path, on_progress: Callable[[float], None] | None = None
) -> None:
    """Write a copy of a video with the labels of its segments.

    Args:
        source: the video.
        timeline: of it.
        output, on_progress: see `redraw`.

    Raises:
        Refused: `source` cannot be read, or `output` not be written.
    """
    starts = [segment.start_seconds for segment in timeline.segments]

    def draw(picture: Picture, seconds: float) -> None:
        number = bisect_right(starts, seconds) - 1
        if number >= 0 and seconds < timeline.segments[number].end_seconds:
            segment = timeline.segments[number]
            draw_labels(picture, [(segment.label, segment.score)])

    redraw(source, output, draw, on_progress)
