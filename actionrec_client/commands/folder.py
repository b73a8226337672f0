"""A folder, a pattern or a list of videos through a server into one file: what `batch` and `embed` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..files.find import find, name_of
from ..files.journal import Journal, JournalError, records
from ..files.tables import Writer
from . import console, work
from .console import out

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="DIR|GLOB|LIST",
        help="Folders (searched through), patterns in quotes, a .txt with a path a line, or files.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after a stop or a kill; no file is done twice.")]
JOURNAL_SUFFIX = ".jsonl"


def check_kind(output: Path, writers: Mapping[str, Writer]) -> None:
    """End the command where the file's name is of no kind that can be written.

    Args:
        output: what the user names.
        writers: by what a name ends in; a journal can be written always.
    """
    if output.suffix.lower() not in {JOURNAL_SUFFIX, *writers}:
        known = ", ".join([JOURNAL_SUFFIX, *writers])
        console.fail(f"{output} is of no kind that can be written.", f"Give it a name that ends in {known}.")


def run(
    inputs: Sequence[str],
    output: Path,
    writers: Mapping[str, Writer],
    request: Mapping[str, object],
    ask: Callable[[work.SentFile], Mapping[str, object]],
    in_flight: int,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Ask for every file that the journal does not have yet, write the table, and say how many there were.

    Args:
        inputs: what the user names.
        output: the file of results; a table's journal lies beside it.
        writers: see `check_kind`.
        request: what is asked for every file.
        ask: gives the fields of a file's record, or raises a `ServerError`.
        in_flight: files at a time.
        resume: go on with a journal that is there.
        as_json: print the counts as JSON.
    """
    suffix = output.suffix.lower()
    journal_path = output if suffix == JOURNAL_SUFFIX else output.with_name(output.name + JOURNAL_SUFFIX)
    try:
        total = sum(1 for _ in find(inputs))
        if not total:
            console.fail(f"There is no video in {' '.join(inputs)}.")
        with Journal(journal_path, request, resume=resume) as journal:
            before = len(journal.done)
            outcome = work.run(_jobs(inputs), total, journal, ask, in_flight)
        if outcome.stopped is None and suffix in writers:
            writers[suffix](journal_path, output)
        failed = work.list_failures(records(journal_path))
    except FileNotFoundError as error:
        console.fail(f"{error} is not there.", "Patterns go in quotes: 'videos/**/*.mp4'.")
    except JournalError as error:
        console.fail(str(error))
    counts = {
        "files": total,
        "answered": outcome.answered,
        "failed": outcome.failed,
        "done_before": before,
        "failed_in_all": failed,
        "output": str(output),
    }
    if as_json:
        console.print_json(counts)
    else:
        earlier = f", {before} done before" if before else ""
        out.print(
            f"{total} file{'s' * (total != 1)}: {outcome.answered} answered, {outcome.failed} failed{earlier}. "
            f"Results: {escape(str(output if outcome.stopped is None else journal_path))}"
        )
    work.end_if_stopped(outcome)
    if failed:
        raise typer.Exit(console.FAILED)


def _jobs(inputs: Sequence[str]) -> Iterator[work.SentFile]:
    return (work.SentFile(name_of(path), path) for path in find(inputs))
