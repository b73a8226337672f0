"""``actionrec batch``: a folder, a pattern or a list of videos into one file of results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..files import tables
from ..files.find import find, name_of
from ..files.journal import Journal, JournalError, records
from ..results import Result
from . import console, work
from .console import out

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="DIR|GLOB|LIST",
        help="Folders (searched through), patterns in quotes, a .txt with a path a line, or files.",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="results.jsonl, .csv or .parquet.", dir_okay=False)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after a stop or a kill; no file is done twice.")]
JOURNAL_SUFFIX = ".jsonl"


def register(app: typer.Typer) -> None:
    """Add the command."""
    console.add(
        app,
        batch,
        "actionrec batch videos/ -o results.csv",
        "actionrec batch 'videos/**/*.mp4' -o results.parquet --resume",
    )


def batch(
    inputs: Inputs,
    output: Output,
    resume: Resume = False,
    top_k: console.TopK = None,
    start: console.Start = None,
    end: console.End = None,
    views: console.Views = None,
    crops: console.CropsOption = None,
    as_json: console.AsJson = False,
    url: console.Url = console.DEFAULT_URL,
    model: console.Model = None,
    token: console.Token = None,
    management_url: console.ManagementUrl = None,
    insecure_token: console.InsecureToken = False,
    timeout: console.Timeout = None,
    in_flight: console.InFlight = None,
) -> None:
    """Name the action in each of many videos.

    One line for each file, with "predictions" or "error", on the disk as soon as it is there. For .csv and
    .parquet the lines go to OUTPUT.jsonl first and are converted at the end. A server that goes away ends
    the run (exit code 3); --resume goes on.
    """
    suffix = output.suffix.lower()
    if suffix != JOURNAL_SUFFIX and suffix not in tables.WRITERS:
        known = ", ".join([JOURNAL_SUFFIX, *tables.WRITERS])
        console.fail(f"{output} is of no kind that can be written.", f"Give it a name that ends in {known}.")
    journal_path = output if suffix == JOURNAL_SUFFIX else output.with_name(output.name + JOURNAL_SUFFIX)
    options = console.selected(top_k, start, end, views, crops)
    client = console.connect(url, model, token, management_url, timeout, insecure_token)
    request = {"model": client.model, **{k: v for k, v in options.items() if v is not None}}
    at_a_time = console.requests_at_a_time(in_flight, options)
    try:
        total = sum(1 for _ in find(inputs))
        if not total:
            console.fail(f"There is no video in {' '.join(inputs)}.")
        with Journal(journal_path, request, resume=resume) as journal:
            before = len(journal.done)
            outcome = work.run(client, _jobs(inputs), total, journal, options, at_a_time, _reply)
        if outcome.stopped is None and suffix in tables.WRITERS:
            tables.convert(journal_path, output, tables.most_predictions(journal_path))
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


def _jobs(inputs: list[str]) -> Iterator[work.Job]:
    return (work.Job(name_of(path), path) for path in find(inputs))


def _reply(job: work.Job, result: Result) -> dict[str, object]:  # noqa: ARG001
    return result.to_dict()
