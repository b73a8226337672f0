"""``actionrec job``: long work at a gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from actionrec.limits import DEFAULT_LIMITS
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .. import video as video_file
from ..api import ActionClient
from ..job_data import JobState, State
from ..jobs import Job
from ..results import Result, Timeline
from ..timeline.remux import CuttableVideo, NotCuttable
from . import console, spans
from .console import err, out

DEFAULT_URL = "http://127.0.0.1:8000"
"""Of a gateway on this host."""

Url = Annotated[
    str,
    typer.Option(envvar="ACTIONREC_GATEWAY_URL", help="Of the gateway.", rich_help_panel="Server"),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Of the job, as `job list` shows it.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it has ended, and print what it has found.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        name="job",
        help="Long work at a gateway, which goes on when this machine is off.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        epilog=console.EXIT_CODES,
    )
    console.add(
        group,
        submit,
        "actionrec job submit match.mp4 --stride 1",
        "actionrec job submit https://clips.example.org/match.mp4 --stride 1 --wait --srt match.srt",
    )
    console.add(group, list_, "actionrec job list --state running", name="list")
    console.add(group, show, "actionrec job show 0123456789abcdef0123456789abcdef")
    console.add(group, wait, "actionrec job wait 0123456789abcdef0123456789abcdef --csv spans.csv")
    console.add(group, cancel, "actionrec job cancel 0123456789abcdef0123456789abcdef")
    app.add_typer(group)


def submit(
    video: Annotated[str, typer.Argument(metavar="FILE|URL", help="A video of any length, or its address.")],
    stride: Annotated[
        float | None,
        typer.Option(
            min=DEFAULT_LIMITS.stride_seconds,
            help="A timeline: seconds from one window to the next. Default: one answer.",
        ),
    ] = None,
    wait_for_it: Wait = False,
    csv: spans.Csv = None,
    srt_path: spans.Srt = None,
    webhook: Annotated[str | None, typer.Option(help="Address that is called when the job has ended.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="The same key makes the same job.")] = None,
    top_k: console.TopK = None,
    start: console.Start = None,
    end: console.End = None,
    views: console.Views = None,
    crops: console.CropsOption = None,
    as_json: console.AsJson = False,
    url: Url = DEFAULT_URL,
    model: console.Model = None,
    token: console.Token = None,
    insecure_token: console.InsecureToken = False,
    timeout: console.Timeout = None,
) -> None:
    """Have a video looked at for as long as it takes.

    The video is sent once, or fetched by the gateway. Engines, workers and gateways may be restarted meanwhile.
    """
    client = connect(url, model, token, timeout, insecure_token)
    by_address = "://" in video
    job = client.submit(
        None if by_address else Path(video),
        url=video if by_address else None,
        idempotency_key=key,
        stride_seconds=stride,
        top_k=top_k,
        start_seconds=start,
        end_seconds=end,
        views=views,
        crops=console.as_crops(crops),
        webhook=webhook,
    )
    if wait_for_it or csv or srt_path:
        _finish(job, csv, srt_path, as_json)
    elif as_json:
        console.print_json(job.state.raw)
    else:
        out.print(job.id)


def list_(
    state: Annotated[State | None, typer.Option(help="Only those in it.")] = None,
    as_json: console.AsJson = False,
    url: Url = DEFAULT_URL,
    token: console.Token = None,
    insecure_token: console.InsecureToken = False,
    timeout: console.Timeout = None,
) -> None:
    """Show your jobs, the newest first."""
    client = connect(url, None, token, timeout, insecure_token)
    if as_json:
        console.print_json([dict(job.state.raw) for job in client.jobs(state)])
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("id", min_width=32)
    for name in ("state", "progress", "created", "video"):
        table.add_column(name, overflow="fold")
    for job in client.jobs(state):
        seen = job.state
        source = seen.raw["source"]
        shown = source.get("url") or f"{source.get('bytes', 0):,} bytes"
        table.add_row(seen.id, seen.state, _share(seen), seen.raw["created"], escape(shown))
    out.print(table)


def show(
    job_id: Id,
    url: Url = DEFAULT_URL,
    token: console.Token = None,
    insecure_token: console.InsecureToken = False,
    timeout: console.Timeout = None,
) -> None:
    """Show how a job is, as JSON."""
    console.print_json(connect(url, None, token, timeout, insecure_token).job(job_id).state.raw)


def wait(
    job_id: Id,
    csv: spans.Csv = None,
    srt_path: spans.Srt = None,
    as_json: console.AsJson = False,
    url: Url = DEFAULT_URL,
    token: console.Token = None,
    insecure_token: console.InsecureToken = False,
    timeout: console.Timeout = None,
) -> None:
    """Wait until a job has ended, and print what it has found."""
    _finish(connect(url, None, token, timeout, insecure_token).job(job_id), csv, srt_path, as_json)


def cancel(
    job_id: Id,
    url: Url = DEFAULT_URL,
    token: console.Token = None,
    insecure_token: console.InsecureToken = False,
    timeout: console.Timeout = None,
) -> None:
    """End a job. What has ended stays as it is."""
    out.print(connect(url, None, token, timeout, insecure_token).job(job_id).cancel().state)


def is_better(
    client: ActionClient, file: Path, stride: float, start: float, end: float | None, crops: int | None
) -> bool:
    """Whether a timeline of a file is better made by a job: the server takes jobs, and one request will not do,
    or cannot be made since nobody knows the model's name.
    """
    long = is_large(file) or _windows(file, stride, start, end) * (crops or 1) > DEFAULT_LIMITS.windows
    return (long or not client.knows_model) and client.has_jobs()


def is_large(file: Path) -> bool:
    """Whether a file is too large for a request."""
    return video_file.size_of(file) > DEFAULT_LIMITS.body_bytes


def _windows(file: Path, stride: float, start: float, end: float | None) -> float:
    """About how many there are; 0 where a file's length cannot be told."""
    try:
        seconds = CuttableVideo(file).seconds
    except NotCuttable:
        return 0.0
    return (min(seconds, end or seconds) - start) / stride + 1


def connect(
    url: str, model: str | None, token: str | None, timeout: float | None, insecure_token: bool
) -> ActionClient:
    """A client of a gateway that answers.

    Raises:
        ServerError: nothing answers.
    """
    return console.reached(url, model, token, None, timeout, insecure_token)


def wait_for(job: Job, description: str = "working") -> JobState:
    """Wait for a job with a bar. Where the user stops waiting, say how to go on."""
    try:
        with _bar(description) as look:
            return job.wait(on_progress=look)
    except KeyboardInterrupt:
        err.print(f"The job goes on: actionrec job wait {job.id}")
        raise


def result_of(job: Job, *, quiet: bool = False) -> Result:
    """What a job has found, when it has ended.

    Args:
        job: that is waited for.
        quiet: without a bar.

    Raises:
        ServerError: it failed, or was cancelled.
    """
    state = job.wait() if quiet else wait_for(job)
    if (error := state.error) is not None:
        raise error
    return job.results()


def _finish(job: Job, csv: Path | None, srt_path: Path | None, as_json: bool) -> None:
    found = result_of(job)
    if isinstance(found, Timeline):
        spans.write(found, csv, srt_path)
    elif csv or srt_path:
        console.fail("The result has no spans to write.", "Make a job with --stride.")
    if as_json:
        console.print_json({"job": job.id, **found.to_dict()})
        return
    out.print(
        spans.table(found) if isinstance(found, Timeline) else console.scores_table([("", found)], named=False)
    )
    spans.say_written(csv, srt_path)
    console.remark(job.id, found)


@contextmanager
def _bar(description: str) -> Iterator[Callable[[JobState], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[left]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(description, total=None, left="")

        def look(state: JobState) -> None:
            left = "" if state.seconds_left is None else f"about {state.seconds_left:.0f} s left"
            what = state.note or (description if state.state == "running" else state.state)
            progress.update(task, completed=state.windows, total=state.of, left=left, description=what)

        yield look


def _share(state: JobState) -> str:
    return f"{100 * state.windows // state.of} %" if state.of else ""
