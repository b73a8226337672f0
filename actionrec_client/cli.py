"""The command line: ``actionrec``, or ``python -m actionrec_client``. Each command has a module."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import typer

from .commands import batch, console, embed, evaluate, explain, job, manage, predict, similar, stream
from .commands import timeline as timeline_command
from .errors import ServerError

app = typer.Typer(
    name="actionrec",
    help="Action recognition in videos, by a server.",
    epilog=console.EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for module in (predict, timeline_command, explain, batch, embed, similar, stream, evaluate, job, manage):
    module.register(app)

_INTERRUPTED = 130  # what typer makes of Ctrl-C


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words, prog_name="actionrec")
    except ServerError as error:
        console.complain(error)
        if "--json" in words:
            console.print_json({"error": error.to_dict()}, indent=None)
        code = console.exit_code(error)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        code = ended.code or 0
    else:
        code = 0
    if code == _INTERRUPTED:
        console.err.print("Stopped.")
    # Threads that wait for replies would keep the process for as long as their requests may take. One that
    # hangs in FFmpeg would come back into an interpreter that is being taken apart, and crash.
    if code == _INTERRUPTED or any(thread.daemon for thread in threading.enumerate()):
        _end(code)
    sys.exit(code)


def _end(code: int) -> NoReturn:
    """Exit at once; what was printed is out, and no thread is waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
