"""The spans of a timeline as a table and as files: what `timeline` and `job` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..files.subtitles import clock, segments_csv, srt
from ..results import Timeline
from . import console
from .console import out

Csv = Annotated[Path | None, typer.Option("--csv", help="Write the spans as CSV.")]
Srt = Annotated[Path | None, typer.Option("--srt", help="Write subtitles, to play with the video.")]


def write(found: Timeline, csv: Path | None, srt_path: Path | None) -> None:
    """Write the files that are asked for."""
    if csv:
        csv.write_text(segments_csv(found), encoding="utf-8", newline="")
    if srt_path:
        srt_path.write_text(srt(found), encoding="utf-8")


def say_written(*paths: Path | None) -> None:
    """Say which files were written."""
    for path in paths:
        if path:
            out.print(f"wrote {escape(str(path))}")


def table(found: Timeline) -> Table:
    """A row for each span."""
    rows = Table("from", "to", "label", "score", "", box=None, pad_edge=False)
    for segment in found.segments:
        rows.add_row(
            clock(segment.start_seconds),
            clock(segment.end_seconds),
            escape(segment.label),
            f"{segment.score:.3f}",
            console.bar(segment.score),
        )
    for number in (0, 1):
        rows.columns[number].justify = "right"
    return rows
