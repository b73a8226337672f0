"""``actionrec stream``: what is done in this live stream?

Exit codes: 0 it ended as it was to (the source ended, ``--count``, ``--max-seconds``, Ctrl-C, SIGTERM); 1 the
server answered no window; 2 wrong usage; 3 the server cannot be reached; 4 the source cannot be opened, or
stayed away for ``--give-up`` seconds.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer
from actionrec.spec import ClipSpec
from rich.markup import escape

from ..description import Description
from ..errors import ServerError
from ..live.clip import EXACT, SMALL
from ..live.events import Answered, Event
from ..live.page import Page
from ..live.picture import Painter, Sink, VideoFile
from ..live.reader import Reader
from ..live.run import Emit, LiveRun, Plan
from ..live.screen import JsonLines, LiveTable, PlainLines
from ..live.server import Server
from ..live.source import MAX_LAG_SECONDS, TIMEOUT_SECONDS, RtspTransport, Source, SourceError
from ..transport import LONGEST_SECONDS
from . import console

SOURCE_FAILED = 4
EXIT_CODES = (
    "Exit codes: 0 ended as it was to, also with Ctrl-C; 1 the server answered no window; 2 wrong usage; "
    "3 the server cannot be reached; 4 the source cannot be opened, or was given up."
)
# What is answered later than this is of no use any more.
_ANSWER_SECONDS = 10.0

_SOURCE, _OUTPUT, _UNKNOWN = "Source", "What comes out", "Where the server does not describe its model"

_CODINGS = {"exact": EXACT, "small": SMALL}

SourceText = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="0 or /dev/video0, rtsp://..., http://..., or a file, played at its own speed."
    ),
]
Interval = Annotated[float, typer.Option(min=0.05, help="Seconds from one window to the next.")]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, help="Labels a result, best first.")]
Smooth = Annotated[
    float | None,
    typer.Option(min=0.01, help="Exponential mean over the results, with this time constant in seconds."),
]
Count = Annotated[int | None, typer.Option(min=1, help="End after so many results.")]
MaxSeconds = Annotated[float | None, typer.Option(min=0.1, help="End after so long.")]
Jsonl = Annotated[
    Path | None, typer.Option(help="Append JSON lines to this file as well.", rich_help_panel=_OUTPUT)
]
AsJson = Annotated[
    bool, typer.Option("--json", help="JSON lines on stdout in the place of a table.", rich_help_panel=_OUTPUT)
]
Show = Annotated[
    bool,
    typer.Option("--show", help="The picture with its labels, for a browser here.", rich_help_panel=_OUTPUT),
]
ShowPort = Annotated[
    int, typer.Option(min=0, max=65535, help="Of --show; 0: a free one.", rich_help_panel=_OUTPUT)
]
Output = Annotated[
    Path | None, typer.Option(help="Write the picture with its labels as MP4.", rich_help_panel=_OUTPUT)
]
TransportOption = Annotated[RtspTransport, typer.Option(help="Of RTSP.", rich_help_panel=_SOURCE)]
SourceTimeout = Annotated[
    float,
    typer.Option(
        min=0.1, help="Seconds without a sign until the source is tried again.", rich_help_panel=_SOURCE
    ),
]
GiveUp = Annotated[
    float | None,
    typer.Option(
        min=0, help="End when the source is away for so many seconds; default: never.", rich_help_panel=_SOURCE
    ),
]
MaxLag = Annotated[
    float,
    typer.Option(min=0.05, help="Drop frames that come later by so many seconds.", rich_help_panel=_SOURCE),
]
CodingOption = Annotated[
    Literal["exact", "small"],
    typer.Option(help="exact is lossless; small is less than half the bytes, for slow lines."),
]
WindowSeconds = Annotated[
    float | None, typer.Option(min=0.05, help="Seconds of video it sees.", rich_help_panel=_UNKNOWN)
]
Frames = Annotated[int | None, typer.Option(min=4, help="Frames it sees.", rich_help_panel=_UNKNOWN)]
Size = Annotated[int | None, typer.Option(min=16, help="Edge of a frame, pixels.", rich_help_panel=_UNKNOWN)]
AnswerTimeout = Annotated[
    float,
    typer.Option(
        min=0.1, max=LONGEST_SECONDS, help="Seconds for the answer to a window.", rich_help_panel="Server"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    examples = ("actionrec stream rtsp://camera/live", "actionrec stream 0 --interval 0.5 --smooth 2 --show")
    # Its exit codes are not those of the other commands: it has a source that can fail as well.
    app.command(epilog=console.epilog(*examples).replace(console.EXIT_CODES, EXIT_CODES))(stream)


def stream(
    source: SourceText,
    interval: Interval = 1.0,
    top_k: TopK = 5,
    smooth: Smooth = None,
    coding: CodingOption = "exact",
    count: Count = None,
    max_seconds: MaxSeconds = None,
    as_json: AsJson = False,
    jsonl: Jsonl = None,
    show: Show = False,
    show_port: ShowPort = 0,
    output: Output = None,
    transport: TransportOption = "tcp",
    source_timeout: SourceTimeout = TIMEOUT_SECONDS,
    give_up: GiveUp = None,
    max_lag: MaxLag = MAX_LAG_SECONDS,
    window_seconds: WindowSeconds = None,
    frames: Frames = None,
    size: Size = None,
    url: console.Url = console.DEFAULT_URL,
    model: console.Model = None,
    token: console.Token = None,
    management_url: console.ManagementUrl = None,
    insecure_token: console.InsecureToken = False,
    timeout: AnswerTimeout = _ANSWER_SECONDS,
) -> None:
    """Name the actions in a live stream, a result every interval.

    What the server cannot get done in time is skipped and counted, so results never fall behind. A source that
    breaks off is taken up again, and the gap is told.
    """
    try:
        named = Source(source, source_timeout, transport, max_lag)
    except SourceError as error:
        console.fail(error.message, error.hint, SOURCE_FAILED)
    # One attempt may take all the time: a second one would be for a window that is old by then.
    server = Server(console.connect(url, model, token, management_url, timeout, insecure_token, timeout))
    described = _describe(server, window_seconds, frames, size)
    plan = Plan(described.spec, described.labels, top_k, _CODINGS[coding], smooth, count, max_seconds)
    with ExitStack() as stack:
        emits = _emits(stack, as_json, jsonl, f"{named.shown} -> {server.url}, every {interval:g} s")
        painter = _painter(stack, show, show_port, output)

        def emit(event: Event) -> None:
            if painter is not None and isinstance(event, Answered):
                painter.label(event.predictions)
            for one in emits:
                one(event)

        reader = Reader(named, plan.spec, interval, give_up, painter.add if painter else None)
        run = LiveRun(stack.enter_context(reader), server, plan, emit)
        try:
            _run(run, emit)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever read stdout has left; no cause for words
            console.fail(
                f"{error.filename or 'The output'} cannot be written: {error.strerror}.", code=console.FAILED
            )
    if painter is not None and painter.error is not None:
        console.err.print(f"[yellow]note:[/] pictures ended early: {escape(str(painter.error))}")
    if reader.error is not None:
        console.fail(reader.error.message, reader.error.hint, SOURCE_FAILED)
    if run.last_error is not None and not run.results:
        console.complain(run.last_error)
        raise typer.Exit(console.exit_code(run.last_error))


def _run(run: LiveRun, emit: Emit) -> None:
    try:
        with _signals():
            reason = run.run()
    except KeyboardInterrupt as interrupt:
        reason = str(interrupt) or "Ctrl-C"
    if run.started:
        emit(run.summary(reason))


def _describe(
    server: Server, window_seconds: float | None, frames: int | None, size: int | None
) -> Description:
    """What the server says its model eats; else what the options say, and SlowFast R50's recipe."""
    try:
        described = server.describe()
    except ServerError as error:
        spec = ClipSpec()
        count = frames or spec.num_frames
        side = size or spec.crop
        rate = count / (window_seconds or spec.window_seconds)
        # How the model shares the frames out among its pathways makes no difference to what is sent.
        spec = ClipSpec(pathways=(count,), sampling_rate=1, fps=rate, short_side=side, crop=side)
        console.err.print(
            f"[yellow]note:[/] {escape(error.message)} Taken for granted: {count} frames of "
            f"{spec.window_seconds:.3f} s, {side} x {side} (--frames, --window-seconds, --size)."
        )
        return Description(spec, None)
    if window_seconds or frames or size:
        console.err.print(
            "[yellow]note:[/] the server describes its model: no need of --window-seconds, --frames, --size."
        )
    return described


def _emits(stack: ExitStack, as_json: bool, jsonl: Path | None, title: str) -> Sequence[Emit]:
    emits: list[Emit] = []
    if jsonl is not None:
        try:
            lines = JsonLines.append(jsonl)
        except OSError as error:
            console.fail(f"{jsonl} cannot be written: {error.strerror}.")
        stack.callback(lines.close)
        emits.append(lines)
    if as_json:
        emits.append(JsonLines(sys.stdout))
    elif console.out.is_terminal:
        emits.append(stack.enter_context(LiveTable(console.out, title)))
    else:
        emits.append(PlainLines(console.out))
    return emits


def _painter(stack: ExitStack, show: bool, show_port: int, output: Path | None) -> Painter | None:
    sinks: list[Sink] = []
    if show:
        try:
            page = Page(show_port)
        except OSError as error:
            console.fail(f"Port {show_port} cannot be used: {error.strerror}.", "Choose another --show-port.")
        sinks.append(page)
        console.err.print(f"The picture is at {page.url} (on this machine; from another: ssh -L)")
    if output is not None:
        try:
            sinks.append(VideoFile(output))
        except OSError as error:
            console.fail(f"{output} cannot be written: {error.strerror}.")
    return stack.enter_context(Painter(sinks)) if sinks else None


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
