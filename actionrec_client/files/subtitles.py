"""A timeline as files that other programs read: subtitles and CSV."""

from __future__ import annotations

import csv
import io

from ..results import Timeline


def srt(timeline: Timeline) -> str:
    """Subtitles in the SubRip format: each segment's label and score, for as long as it lasts."""
    blocks = [
        f"{number}\n{_clock(s.start_seconds)} --> {_clock(s.end_seconds)}\n{s.label} ({s.score:.2f})\n"
        for number, s in enumerate(timeline.segments, start=1)
    ]
    return "\n".join(blocks)


def segments_csv(timeline: Timeline) -> str:
    """A row for each segment."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["start_seconds", "end_seconds", "label", "class_index", "score"])
    for s in timeline.segments:
        writer.writerow([s.start_seconds, s.end_seconds, s.label, s.class_index, s.score])
    return file.getvalue()


def clock(seconds: float) -> str:
    """Minutes and seconds for people: ``1:02.5``, ``1:00:02.5``."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{rest // 10:02d}.{rest % 10}"


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"
