"""Events -> lines of JSON, lines for people, or a table that is always up to date."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .events import Answered, Event, Failed, Gap, Label, Lost, Opened, Summary, Tally

_ROWS = 12
_BAR = 10


class JsonLines:
    """Appends every event to a file or a stream, one JSON object a line, flushed.

    Args:
        file: open for writing text.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @classmethod
    def append(cls, path: Path) -> JsonLines:
        """To the end of a file.

        Raises:
            OSError: it cannot be written.
        """
        return cls(path.open("a", encoding="utf-8"))

    def __call__(self, event: Event) -> None:
        """Write a line."""
        self._file.write(json.dumps(event.to_dict(), ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PlainLines:
    """One line an event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: Event) -> None:
        """Print a line."""
        self._console.print(_line(event), soft_wrap=True)


class LiveTable:
    """The last results as a table on a terminal; gaps and errors stay above it. Use it in a ``with`` statement.

    Args:
        console: a terminal.
        title: what is looked at.
    """

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._results: deque[Answered] = deque(maxlen=_ROWS)
        self._state = "connecting"
        self._tally = Tally()
        self._live = Live(self._render(), console=console, auto_refresh=False)

    def __call__(self, event: Event) -> None:
        """Show what an event changes."""
        if isinstance(event, Answered):
            self._results.append(event)
        elif isinstance(event, Opened):
            self._state = f"live, {event.width}x{event.height}"
        elif isinstance(event, Lost):
            self._state = "lost, connecting again"
        self._tally.add(event)
        if isinstance(event, Gap | Failed | Lost | Summary):
            self._live.console.print(_line(event))
        self._live.update(self._render(), refresh=True)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _render(self) -> Group:
        table = Table(
            title=escape(self._title),
            title_justify="left",
            expand=True,
            box=SIMPLE_HEAD,
            pad_edge=False,
            padding=0,
        )
        table.add_column("time", no_wrap=True)
        table.add_column("window, s", justify="right", no_wrap=True)
        table.add_column("action", ratio=3, no_wrap=True)
        table.add_column("score", no_wrap=True)
        table.add_column("next", ratio=2, no_wrap=True, style="dim")
        table.add_column("age", justify="right", no_wrap=True)
        for result in reversed(self._results):
            best = result.predictions[0]
            table.add_row(
                _clock(result.end_at),
                f"{result.start_seconds:.1f}-{result.end_seconds:.1f}",
                escape(str(best["label"])),
                _bar(float(best["score"])),
                escape(_labels(result.predictions[1:2])),
                f"{result.age_seconds:.2f} s",
            )
        return Group(table, Text(self._counts(), style="dim"))

    def _counts(self) -> str:
        parts = [self._state]
        if self._results:
            last = self._results[-1]
            parts += [f"windows skipped: {last.windows_skipped}", f"frames dropped: {last.frames_dropped}"]
        parts += [f"gaps: {self._tally.gaps}", f"errors: {self._tally.errors}", "Ctrl-C ends"]
        return " | ".join(parts)


def _line(event: Event) -> str:
    """One event as a line, in rich's markup."""
    render: dict[type, Callable[..., str]] = {
        Answered: _result_line,
        Gap: _gap_line,
        Failed: _failed_line,
        Lost: lambda lost: f"{_clock(lost.at)}  [yellow]lost[/]  {escape(lost.reason)}",
        Opened: lambda opened: (
            f"{_clock(opened.at)}  open  {escape(opened.source)}, {opened.width}x{opened.height}"
        ),
        Summary: _summary_line,
    }
    return render[type(event)](event)


def _result_line(result: Answered) -> str:
    span = f"{result.start_seconds:.1f}-{result.end_seconds:.1f} s"
    line = f"{_clock(result.end_at)}  {span}  [bold]{escape(_labels(result.predictions[:3]))}[/]"
    line += (
        f"  age {result.age_seconds:.2f} s, skipped {result.windows_skipped}, dropped {result.frames_dropped}"
    )
    return line + "".join(f"  [yellow]{entry['code']}[/]" for entry in result.warnings)


def _gap_line(gap: Gap) -> str:
    tries = f", {gap.attempts} attempts" if gap.attempts > 1 else ""
    return f"{_clock(gap.at)}  [yellow]gap[/]   {gap.seconds:.1f} s{tries}: {escape(gap.reason)}"


def _failed_line(failed: Failed) -> str:
    span = f"{failed.start_seconds:.1f}-{failed.end_seconds:.1f} s"
    said = escape(f"{failed.message} {failed.hint}".rstrip())
    return f"{_clock(failed.at)}  [red]error[/] {span}: {failed.code}: {said}"


def _summary_line(summary: Summary) -> str:
    return (
        f"{summary.results} results, {summary.errors} errors, {summary.gaps} gaps in {summary.seconds:.1f} s; "
        f"{summary.windows_skipped} windows skipped, {summary.frames_dropped} of "
        f"{summary.frames + summary.frames_dropped} frames dropped. Ended: {escape(summary.reason)}."
    )


def _labels(predictions: Sequence[Label]) -> str:
    return ", ".join(f"{entry['label']} {float(entry['score']):.2f}" for entry in predictions)


def _bar(score: float) -> str:
    filled = round(score * _BAR)
    return f"[green]{'━' * filled}[/][dim]{'━' * (_BAR - filled)}[/] {score:.2f}"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
