"""``actionrec timeline``: what happens when in a video?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from actionrec.limits import DEFAULT_LIMITS
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..files.subtitles import clock, segments_csv, srt
from ..results import Timeline
from ..timeline.long_video import STRIDE_SECONDS
from . import console
from .console import err, out

File = Annotated[Path, typer.Argument(metavar="FILE", help="A video of any length.")]
Stride = Annotated[
    float, typer.Option(min=DEFAULT_LIMITS.stride_seconds, help="Seconds from one window to the next.")
]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write the spans as CSV.")]
Srt = Annotated[Path | None, typer.Option("--srt", help="Write subtitles, to play with the video.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw labels and scores over time (.png, .svg).")]
Annotated_ = Annotated[
    Path | None, typer.Option("--annotate", help="Write the video with its labels drawn in.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    console.add(
        app,
        timeline,
        "actionrec timeline match.mp4 --plot match.png --srt match.srt",
        "actionrec timeline camera.mkv --stride 0.5 --annotate labelled.mp4",
    )


def timeline(
    file: File,
    stride: Stride = STRIDE_SECONDS,
    csv: Csv = None,
    srt_path: Srt = None,
    plot: Plot = None,
    annotate: Annotated_ = None,
    top_k: console.TopK = None,
    start: Annotated[float, typer.Option("--start", min=0.0, help="Seconds from the first frame.")] = 0.0,
    end: Annotated[float | None, typer.Option("--end", help="Seconds; default: the video's end.")] = None,
    crops: console.CropsOption = None,
    as_json: console.AsJson = False,
    url: console.Url = console.DEFAULT_URL,
    model: console.Model = None,
    token: console.Token = None,
    management_url: console.ManagementUrl = None,
    insecure_token: console.InsecureToken = False,
    timeout: console.Timeout = None,
) -> None:
    """Say what happens when in a video of any length, as spans of one label each.

    A video that is too long for one request is sent in parts, cut by copying (nothing is re-encoded).
    """
    client = console.connect(url, model, token, management_url, timeout, insecure_token)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as progress:
        task = progress.add_task("classifying", total=None)
        found = client.timeline(
            file,
            stride_seconds=stride,
            start_seconds=start,
            end_seconds=end,
            crops=console.as_crops(crops) or 1,
            top_k=top_k,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        if annotate:
            from ..files.annotate import annotate as draw_into

            progress.update(task, description="drawing", completed=0, total=found.windows[-1].end_seconds)
            draw_into(file, found, annotate, lambda seconds: progress.update(task, completed=seconds))
    if csv:
        csv.write_text(segments_csv(found), encoding="utf-8", newline="")
    if srt_path:
        srt_path.write_text(srt(found), encoding="utf-8")
    if plot:
        from ..files.plot import plot_timeline

        plot_timeline(found, plot, title=file.name)
    if as_json:
        console.print_json({"file": str(file), **found.to_dict()})
        return
    out.print(_table(found))
    for path in (csv, srt_path, plot, annotate):
        if path:
            out.print(f"wrote {escape(str(path))}")
    console.remark(str(file), found)


def _table(found: Timeline) -> Table:
    table = Table("from", "to", "label", "score", "", box=None, pad_edge=False)
    for segment in found.segments:
        table.add_row(
            clock(segment.start_seconds),
            clock(segment.end_seconds),
            escape(segment.label),
            f"{segment.score:.3f}",
            console.bar(segment.score),
        )
    for number in (0, 1):
        table.columns[number].justify = "right"
    return table
