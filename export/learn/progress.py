"""What a run tells while it goes on: to people with a bar, to programs as a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Step = Callable[[], None]
"""Called when one more thing is done."""


class Teller(Protocol):
    """Where a run says what it does."""

    console: Console
    """For what the steps of a build say."""

    def say(self, event: str, text: str, **values: object) -> None:
        """Something happened.

        Args:
            event: its kind, for programs.
            text: the same in words.
            values: what programs get, as JSON can write it.
        """

    def counted(self, event: str, text: str, total: int) -> AbstractContextManager[Step]:
        """A context manager whose value is to be called `total` times."""


class ForPeople:
    """Lines, and a bar while there is something to count."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, event: str, text: str, **values: object) -> None:  # noqa: ARG002
        """See `Teller`."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    @contextmanager
    def counted(self, event: str, text: str, total: int) -> Iterator[Step]:  # noqa: ARG002
        """See `Teller`."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(text, total=total)
            yield lambda: progress.advance(task)


class ForPrograms:
    """A JSON object a line: ``event``, and its values.

    Args:
        out: gets the lines.
        console: gets what the steps of a build say.
    """

    def __init__(self, out: IO[str], console: Console) -> None:
        self._out = out
        self.console = console

    def say(self, event: str, text: str, **values: object) -> None:
        """See `Teller`."""
        self._out.write(json.dumps({"event": event, "message": text, **values}, ensure_ascii=False) + "\n")
        self._out.flush()

    @contextmanager
    def counted(self, event: str, text: str, total: int) -> Iterator[Step]:
        """See `Teller`."""
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            self.say(event, text, done=done, total=total)

        yield step
