"""How long a child may take: its time budgets, in seconds of a machine that has nothing else to do.

A second of the child's CPU time counts as a second, and a second by the clock as at least a quarter. So a busy
machine does not refuse what a quiet one answers, and a child that does nothing is stopped soon.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .child_process import Child

_STEP_SECONDS = 0.02
"""Seconds between two checks of the child's CPU time."""
_LOOK_SECONDS = 1.0
"""Seconds between two checks whether the child was stopped by a signal."""
_IDLE_SHARE = 4
"""Seconds by the clock that count as one while the child uses no CPU time..."""
_LAST_SHARE = 20
"""... and while it must let all others go first."""


class NotWantedError(Exception):
    """Nobody waits for the child's answer any more."""


class Patience:
    """Waits for a child's messages.

    Args:
        child: the child that is at work.
        seconds: the most time of all waits together.
        wanted: returns whether anybody still waits.
        slow: called when the child must let others go first from now on.
    """

    def __init__(
        self, child: Child, seconds: float, wanted: Callable[[], bool], slow: Callable[[], object]
    ) -> None:
        self._child = child
        self._left = seconds
        self._wanted = wanted
        self._slow = slow

    def receive(self, seconds: float, slow_seconds: float) -> dict[str, Any]:
        """The next message.

        Args:
            seconds: the most time of this wait.
            slow_seconds: CPU time after which the child must let all others go first, for the rest of its life.

        Raises:
            TimeoutError: no message came in time; its text says which limit was reached.
            ConnectionError: the child is gone, or sends something wrong.
            NotWantedError: nobody waits any more.
        """
        began, cpu_began = time.monotonic(), self._child.cpu_seconds()

        def used() -> float:
            return self._child.cpu_seconds() - cpu_began

        def spent() -> float:
            clock = time.monotonic() - began
            return min(clock, max(used(), clock / (_LAST_SHARE if self._child.stepped_back else _IDLE_SHARE)))

        look = began + _LOOK_SECONDS
        try:
            while True:
                if self._left <= 0:
                    raise TimeoutError("all steps together took too long")
                with suppress(TimeoutError):
                    return self._child.receive(time.monotonic() + _STEP_SECONDS)
                if not self._wanted():
                    raise NotWantedError
                if time.monotonic() > look:
                    look = time.monotonic() + _LOOK_SECONDS
                    if not self._child.well():
                        self._child.kill()  # somebody has stopped it; that counts as killed from outside
                if spent() >= seconds:
                    raise TimeoutError(f"a step took more than {seconds:g} s")
                if spent() >= self._left:
                    raise TimeoutError("all steps together took too long")
                if used() >= slow_seconds and not self._child.stepped_back:
                    self._child.step_back()
                    self._slow()
        finally:
            self._left -= spent()
