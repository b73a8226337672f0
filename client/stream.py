"""``python -m client stream SOURCE``: the actions in a live stream, a result every interval.

Exit codes: 0 it ended as it was to (the source ended, ``--count``, ``--max-seconds``, Ctrl-C, SIGTERM); 2 the
command line is wrong; 3 the server answered no window; 4 the source cannot be opened, or was given up.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from actionrec.spec import ClipSpec
from rich.console import Console
from rich.markup import escape

from .api import ServerError
from .live.clip import EXACT, SMALL
from .live.events import Event, Result
from .live.page import Page
from .live.picture import Painter, Sink, VideoFile
from .live.reader import Reader
from .live.run import Emit, LiveRun, Plan
from .live.screen import JsonLines, LiveTable, PlainLines
from .live.server import Description, Server
from .live.source import MAX_LAG_SECONDS, TIMEOUT_SECONDS, Source, SourceError

SERVER_FAILED, SOURCE_FAILED = 3, 4


class Transport(StrEnum):
    """How RTSP carries the video."""

    TCP = "tcp"
    UDP = "udp"


class Coding(StrEnum):
    """How a window travels to the server."""

    EXACT = "exact"
    SMALL = "small"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("stream")(stream)


def stream(
    source: Annotated[
        str, typer.Argument(help="0 or /dev/video0, rtsp://..., http://..., or a file, played at its own speed")
    ],
    url: Annotated[str, typer.Option(help="of the served model")] = "http://127.0.0.1:8080/predictions/motion",
    interval: Annotated[float, typer.Option(min=0.05, help="seconds from one window to the next")] = 1.0,
    top_k: Annotated[int, typer.Option(min=1, help="labels a result")] = 5,
    smooth: Annotated[
        float | None, typer.Option(min=0.01, help="exponential mean over the results, time constant in seconds")
    ] = None,
    coding: Annotated[
        Coding,
        typer.Option(help="exact: lossless; small: less than half the bytes, scores differ by up to 0.01"),
    ] = Coding.EXACT,
    count: Annotated[int | None, typer.Option(min=1, help="end after so many results")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0.1, help="end after so long")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="JSON lines on stdout")] = False,
    jsonl: Annotated[Path | None, typer.Option(help="append JSON lines to this file as well")] = None,
    show: Annotated[
        bool, typer.Option("--show", help="serve the picture with its labels to a browser on this machine")
    ] = False,
    show_port: Annotated[int, typer.Option(min=0, max=65535, help="of --show; 0: a free one")] = 0,
    output: Annotated[Path | None, typer.Option(help="write the picture with its labels to this MP4")] = None,
    transport: Annotated[Transport, typer.Option(help="of RTSP")] = Transport.TCP,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="seconds without a sign of the source until it is tried again")
    ] = TIMEOUT_SECONDS,
    give_up: Annotated[
        float | None, typer.Option(min=0.0, help="end when a source that broke is away for so many seconds")
    ] = None,
    server_timeout: Annotated[float, typer.Option(min=0.1, help="seconds for the answer to a window")] = 10.0,
    max_lag: Annotated[
        float, typer.Option(min=0.05, help="drop frames that come later than this many seconds")
    ] = MAX_LAG_SECONDS,
    window_seconds: Annotated[
        float | None, typer.Option(min=0.05, help="of the model, where the server does not describe it")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="of the model, in the same case")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="of the model in pixels, in the same case")] = None,
) -> None:
    """Name the actions in a live stream, a result every interval.

    The server must be up (make serve). What it does not get done in time is skipped and counted, so results are
    never late. A source that breaks is tried again, and the gap is reported.
    """
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    server = Server(url, server_timeout)
    try:
        named = Source(source, timeout, transport.value, max_lag)
        description = _describe(server, window_seconds, frames, size, err)
        with ExitStack() as stack:
            painter = _painter(stack, show, show_port, output, err)
            emits = _emits(stack, json_lines, jsonl, f"{named.shown} -> {url}, every {interval:g} s")
            plan = Plan(
                spec=description.spec,
                labels=description.labels,
                top_k=top_k,
                coding={Coding.EXACT: EXACT, Coding.SMALL: SMALL}[coding],
                smooth_seconds=smooth,
                count=count,
                max_seconds=max_seconds,
            )

            def emit(event: Event) -> None:
                if painter is not None and isinstance(event, Result):
                    painter.label(event.predictions)
                for one in emits:
                    one(event)

            reader = Reader(named, plan.spec, interval, give_up, painter.add if painter else None)
            run = LiveRun(stack.enter_context(reader), server, plan, emit)
            code = _run(run, reader, emit)
        if reader.error is not None:
            raise reader.error
    except SourceError as error:
        err.print(f"[red]error:[/] {escape(error.message)} {escape(error.hint)}")
        raise typer.Exit(SOURCE_FAILED) from error
    except OSError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(2) from error
    raise typer.Exit(code)


def _run(run: LiveRun, reader: Reader, emit: Emit) -> int:
    try:
        with _signals():
            reason = run.run()
    except KeyboardInterrupt as interrupt:
        reason = str(interrupt) or "Ctrl-C"
    if reader.error is None or run.results or run.errors:
        emit(run.summary(reason))
    return SERVER_FAILED if run.errors and not run.results else 0


def _describe(
    server: Server, window_seconds: float | None, frames: int | None, size: int | None, err: Console
) -> Description:
    """What the server says its model eats; else what the options say, and SlowFast R50's recipe."""
    try:
        described = server.describe()
    except ServerError as error:
        spec = ClipSpec()
        count = frames or spec.num_frames
        spec = ClipSpec(
            num_frames=count,
            sampling_rate=1,
            fps=count / (window_seconds or spec.window_seconds),
            short_side=size or spec.short_side,
            crop=size or spec.crop,
        )
        err.print(
            f"[yellow]note:[/] {escape(error.message)} Taken for granted: {spec.num_frames} frames of "
            f"{spec.window_seconds:.3f} s, {spec.crop} x {spec.crop} (--frames, --window-seconds, --size)."
        )
        return Description(spec, None)
    if window_seconds or frames or size:
        err.print(
            "[yellow]note:[/] the server describes its model; --window-seconds, --frames, --size are not used."
        )
    return described


def _painter(stack: ExitStack, show: bool, show_port: int, output: Path | None, err: Console) -> Painter | None:
    sinks: list[Sink] = []
    if show:
        page = Page(show_port)
        sinks.append(page)
        err.print(f"The picture is at {page.url} (on this machine; from another: ssh -L)")
    if output is not None:
        sinks.append(VideoFile(output))
    return stack.enter_context(Painter(sinks)) if sinks else None


def _emits(stack: ExitStack, json_lines: bool, jsonl: Path | None, title: str) -> Sequence[Emit]:
    emits: list[Emit] = []
    if jsonl is not None:
        lines = JsonLines.append(jsonl)
        stack.callback(lines.close)
        emits.append(lines)
    console = Console(highlight=False)
    if json_lines:
        emits.append(JsonLines(sys.stdout))
    elif console.is_terminal:
        emits.append(stack.enter_context(LiveTable(console, title)))
    else:
        emits.append(PlainLines(console))
    return emits


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does; SIGINT does so also where it was inherited as ignored."""

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt("Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name)

    before = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
