"""``actionrec timeline``: what happens when in a video?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from actionrec.limits import DEFAULT_LIMITS
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..api import ActionClient
from ..options import Crops
from ..results import Timeline
from ..timeline.long_video import STRIDE_SECONDS
from . import console, job, spans
from .console import err, out

File = Annotated[Path, typer.Argument(metavar="FILE", help="A video of any length.")]
Stride = Annotated[
    float, typer.Option(min=DEFAULT_LIMITS.stride_seconds, help="Seconds from one window to the next.")
]
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
    csv: spans.Csv = None,
    srt_path: spans.Srt = None,
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

    A video that is too long for one request is sent in parts, cut by copying (nothing is re-encoded). A gateway
    gets it whole, as a job.
    """
    client = console.reached(url, model, token, management_url, timeout, insecure_token)
    if job.is_better(client, file, stride, start, end, crops):
        done = client.submit(
            file,
            stride_seconds=stride,
            start_seconds=start or None,
            end_seconds=end,
            crops=console.as_crops(crops),
            top_k=top_k,
        )
        found = Timeline.from_dict(job.result_of(done).raw)
    else:
        found = _asked(client, file, stride, start, end, console.as_crops(crops) or 1, top_k)
    if annotate:
        _draw(file, found, annotate)
    spans.write(found, csv, srt_path)
    if plot:
        from ..files.plot import plot_timeline

        plot_timeline(found, plot, title=file.name)
    if as_json:
        console.print_json({"file": str(file), **found.to_dict()})
        return
    out.print(spans.table(found))
    spans.say_written(csv, srt_path, plot, annotate)
    console.remark(str(file), found)


def _asked(
    client: ActionClient,
    file: Path,
    stride: float,
    start: float,
    end: float | None,
    crops: Crops,
    top_k: int | None,
) -> Timeline:
    with _bar() as progress:
        task = progress.add_task("classifying", total=None)
        return client.timeline(
            file,
            stride_seconds=stride,
            start_seconds=start,
            end_seconds=end,
            crops=crops,
            top_k=top_k,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _draw(file: Path, found: Timeline, output: Path) -> None:
    from ..files.annotate import annotate as draw_into

    with _bar() as progress:
        task = progress.add_task("drawing", total=found.windows[-1].end_seconds)
        draw_into(file, found, output, lambda seconds: progress.update(task, completed=seconds))


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    return Progress(*columns, TimeRemainingColumn(), console=err, transient=True)
