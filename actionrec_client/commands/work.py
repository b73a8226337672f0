"""Many files through a server into a journal: what `batch`, `embed` and `evaluate` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ..errors import Busy, Redirected, ServerError, Unreachable
from ..files.journal import Journal
from ..in_flight import as_they_come
from .console import NOT_READY, complain, err

_SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True)
class SentFile:
    """One file to send."""

    name: str
    """What it is called in the journal."""
    path: Path
    extra: Mapping[str, object] = field(default_factory=dict)
    """More fields of its record."""


@dataclass(slots=True)
class Outcome:
    """What a run did."""

    answered: int = 0
    failed: int = 0
    stopped: ServerError | None = None
    """Why the run ended early; None where it did not."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} files/s" if task.speed else "", style="cyan")


def run(
    jobs: Iterable[SentFile],
    total: int,
    journal: Journal,
    ask: Callable[[SentFile], Mapping[str, object]],
    in_flight: int,
) -> Outcome:
    """Ask for every job that the journal does not have yet, and write its record.

    The error of a file becomes its record. A server that is gone, or busy until the deadline, ends the run: the
    files that wait get no record, and a resumed run sends them.

    Args:
        jobs: read while it goes.
        total: how many there are, for the progress bar.
        journal: where the records go.
        ask: gives the fields of a job's record, or raises a `ServerError`; called in several threads.
        in_flight: jobs at a time.
    """
    outcome = Outcome()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task("", total=total)

        def waiting() -> Iterable[SentFile]:
            left = total
            for job in jobs:
                if job.name in journal.done:
                    left -= 1  # and not "done", which would make the rate that of reading the journal
                    progress.update(task, total=left)
                else:
                    yield job

        def answer_of(job: SentFile) -> Mapping[str, object] | ServerError:
            try:
                return ask(job)
            except ServerError as error:
                return error

        for job, answer in as_they_come(answer_of, waiting(), in_flight):
            if isinstance(answer, Unreachable | Busy | Redirected):
                outcome.stopped = answer
                break
            if isinstance(answer, ServerError):
                outcome.failed += 1
                journal.add(job.name, {**job.extra, "error": answer.to_dict()})
            else:
                outcome.answered += 1
                journal.add(job.name, {**job.extra, **answer})
            note = f"[red]{outcome.failed} failed[/red]" if outcome.failed else ""
            progress.update(task, advance=1, description=note)
    return outcome


def end_if_stopped(outcome: Outcome) -> None:
    """End the command, with a message, where the server went away before all was done."""
    if outcome.stopped is not None:
        complain(outcome.stopped)
        err.print("       Stopped; the same command with --resume goes on.")
        raise typer.Exit(NOT_READY)


def list_failures(failures: Iterable[Mapping[str, object]]) -> int:
    """Say on stderr which files failed; returns how many.

    Args:
        failures: records of the journal.
    """
    count = 0
    for record in failures:
        error = record.get("error")
        if not isinstance(error, dict):
            continue
        count += 1
        if count <= _SHOWN_FAILURES:
            name, code = escape(str(record["file"])), escape(str(error["code"]))
            err.print(f"[red]failed:[/red] {name}: {escape(str(error['message']))} [dim]({code})[/dim]")
    if count > _SHOWN_FAILURES:
        err.print(f"        and {count - _SHOWN_FAILURES} more")
    return count
