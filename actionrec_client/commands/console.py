"""What all commands share: how they are called, what they say, and the exit code."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn, cast

import typer
from actionrec.limits import DEFAULT_LIMITS
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..api import ActionClient
from ..errors import Busy, NoReply, ServerError, Unreachable
from ..options import Crops, Options, views_of
from ..results import Result
from ..transport import LONGEST_SECONDS

OK, FAILED, USAGE, NOT_READY = 0, 1, 2, 3
EXIT_CODES = (
    "Exit codes: 0 all right; 1 a file failed or was refused; 2 wrong usage; "
    "3 the server cannot be reached or is not ready."
)

# In a file or a pipe rich assumes 80 columns and breaks the rows of a table.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
out = Console(highlight=False, width=_WIDTH)
err = Console(highlight=False, stderr=True, soft_wrap=True)

_SERVER, _REQUEST = "Server", "What to look at"
Url = Annotated[
    str,
    typer.Option(
        envvar="ACTIONREC_URL",
        help="Of the server, with or without /predictions/MODEL.",
        rich_help_panel=_SERVER,
    ),
]
Model = Annotated[
    str | None, typer.Option(help="Which model; default: the only one served.", rich_help_panel=_SERVER)
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="ACTIONREC_TOKEN",
        help="Sent as a bearer token. Give it in the variable: other users can see a command's options.",
        rich_help_panel=_SERVER,
    ),
]
InsecureToken = Annotated[
    bool,
    typer.Option(
        "--insecure-token",
        envvar="ACTIONREC_INSECURE_TOKEN",
        help="Send the token over plain http to another machine too.",
        rich_help_panel=_SERVER,
    ),
]
ManagementUrl = Annotated[
    str | None, typer.Option(help="Default: the next port of the same host.", rich_help_panel=_SERVER)
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=LONGEST_SECONDS,
        help="Seconds for a request with all its retries; default: 120, 300 for one of several windows.",
        rich_help_panel=_SERVER,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option("--top-k", "-k", min=1, help="Labels for each, best first.", rich_help_panel=_REQUEST),
]
Start = Annotated[
    float | None, typer.Option("--start", help="Seconds from the first frame.", rich_help_panel=_REQUEST)
]
End = Annotated[
    float | None,
    typer.Option("--end", help="Seconds; default: one window after the start.", rich_help_panel=_REQUEST),
]
Views = Annotated[
    int | None,
    typer.Option(min=1, help="Windows spread over the range, scores averaged.", rich_help_panel=_REQUEST),
]
CropsOption = Annotated[
    int | None, typer.Option(min=1, help="1 or 3 a window, scores averaged.", rich_help_panel=_REQUEST)
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout in the place of a table.")]
InFlight = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=256,
        help="Requests at a time; default: 8, fewer where each asks for many windows.",
        rich_help_panel=_SERVER,
    ),
]

_WRONG_USAGE = frozenset(
    {"BAD_URL", "WHICH_MODEL", "NO_MANAGEMENT", "BAD_TOKEN", "INSECURE_TOKEN", "REDIRECTED"}
)

DEFAULT_URL = "http://127.0.0.1:8080"
_IN_FLIGHT = 8


def add(app: typer.Typer, command: Callable[..., None], *examples: str, name: str | None = None) -> None:
    """Register a command: its docstring is its help, below the options stand examples and exit codes.

    Args:
        app: the program, or a group of commands.
        command: what it does.
        examples: how it is called.
        name: default: the function's.
    """
    # Typer keeps single line breaks of all paragraphs but the first, so lines would break twice.
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(name=name, help=text, epilog=epilog(*examples))(command)


def epilog(*examples: str) -> str:
    """What stands below a command's options: how it is called, and its exit codes."""
    lines = [f"[bold]{'Example' if len(examples) == 1 else 'Examples'}[/bold]"]
    return "\n\n".join([*lines, *(escape(example) for example in examples), EXIT_CODES])


def connect(
    url: str,
    model: str | None,
    token: str | None,
    management_url: str | None,
    timeout: float | None,
    insecure_token: bool,
    attempt_timeout: float | None = None,
) -> ActionClient:
    """A client for a server that answers. A command says at once, and not at its deadline, that there is none.

    Raises:
        ServerError: nothing answers, or the model has to be named.
    """
    client = reached(url, model, token, management_url, timeout, insecure_token, attempt_timeout)
    _ = client.model
    return client


def reached(
    url: str,
    model: str | None,
    token: str | None,
    management_url: str | None,
    timeout: float | None,
    insecure_token: bool,
    attempt_timeout: float | None = None,
) -> ActionClient:
    """The same where the model need not be known.

    Raises:
        ServerError: nothing answers.
    """
    client = ActionClient(
        url,
        model=model,
        token=token,
        timeout=timeout,
        attempt_timeout=attempt_timeout,
        management_url=management_url,
        insecure_token=insecure_token,
    )
    client.reach()
    return client


def selected(
    top_k: int | None, start: float | None, end: float | None, views: int | None, crops: int | None
) -> Options:
    """The options of a request, by the names that the server knows; None: not given."""
    return Options(top_k=top_k, start_seconds=start, end_seconds=end, views=views, crops=as_crops(crops))


def given(options: Options) -> dict[str, object]:
    """Those of the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def as_crops(number: int | None) -> Crops | None:
    """What was given as ``--crops``. The server knows which numbers there are, and refuses another."""
    return cast(Crops | None, number)


def requests_at_a_time(asked: int | None, options: Options) -> int:
    """How many requests to have under way at once.

    Args:
        asked: as many as the user asks for. None: 8, or fewer, so that all together have no more views than one
            request may have: so many a server gets done in time.
        options: of each request.
    """
    return asked or max(1, min(_IN_FLIGHT, DEFAULT_LIMITS.windows // views_of(options)))


def exit_code(error: ServerError) -> int:
    """What an error of a whole command means for its caller."""
    if isinstance(error, Unreachable | NoReply | Busy):
        return NOT_READY
    return USAGE if error.code in _WRONG_USAGE else FAILED


def complain(error: ServerError, about: str = "") -> None:
    """Say on stderr what went wrong, and what to do."""
    place = f"{about}: " if about and not error.message.startswith(about) else ""
    err.print(f"[red]error:[/red] {escape(place + error.message)} [dim]({escape(error.code)})[/dim]")
    if error.hint:
        err.print(f"       {escape(error.hint)}")


def remark(name: str, answer: Result | ServerError) -> None:
    """Print on stderr what has no place in a table: an error, or the warnings of an answer."""
    if isinstance(answer, ServerError):
        complain(answer, name)
        return
    for warning in answer.warnings:
        err.print(f"[yellow]note:[/yellow] {escape(name)}: {escape(warning.message)}")


def fail(message: str, hint: str = "", code: int = USAGE) -> NoReturn:
    """End the command with a message on stderr."""
    err.print(f"[red]error:[/red] {escape(message)}")
    if hint:
        err.print(f"       {escape(hint)}")
    raise typer.Exit(code)


def print_json(value: Mapping[str, Any] | Sequence[Any], *, indent: int | None = 2) -> None:
    """JSON on stdout, never wrapped or coloured."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=indent) + "\n")
    sys.stdout.flush()


def scores_table(results: Sequence[tuple[str, Result]], *, named: bool) -> Table:
    """Labels and scores.

    Args:
        results: of each file, with its name.
        named: whether the names are shown, a group of rows for each.
    """
    columns = ["file"] * named + ["label", "score", ""]
    table = Table(*columns, box=None, pad_edge=False)
    for name, result in results:
        for number, prediction in enumerate(result.predictions):
            cells = [escape(name) if number == 0 else ""] * named
            cells += [escape(prediction.label), f"{prediction.score:.3f}", bar(prediction.score)]
            table.add_row(*cells, style=None if number == 0 else "dim")
    return table


def bar(share: float, width: int = 20) -> str:
    """A share of 0 to 1 as a bar of characters."""
    return "━" * round(share * width)
