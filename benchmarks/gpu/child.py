"""A process for what may run out of memory, hang or crash: it takes one question after the other with it.

Questions and answers are lines of JSON. What the process prints goes to a log, whose last lines tell why it
ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

import psutil
from actionrec.errors import first_line

from benchmarks.apart import PROJECT

Answer = dict[str, Any]
LOG_LINES = 12
_STICKY = "CUDA error"
"""In the message of an error after which CUDA refuses every other call of the process."""


class ChildError(Exception):
    """A question without its answer.

    Args:
        message: what is wrong; one line.
        log: the last lines that the process has printed.
    """

    def __init__(self, message: str, log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.log = list(log)


class LostError(ChildError):
    """The process ended, or its time did."""


class LateError(LostError):
    """The process did not answer in its time."""


class RefusedError(ChildError):
    """The process answered with an error, and lives on."""


class Child:
    """``python -m module arguments``, which calls `serve`. It is started for a question, and again for the next
    one where it has ended. Use it in a ``with`` statement.

    Args:
        module: what to run.
        arguments: its command line.
        log: file for what it prints.
        variables: environment variables beside ours.
    """

    _alive: set[Child] = set()  # noqa: RUF012 - all of this process, for `kill_all`

    def __init__(
        self, module: str, *arguments: str, log: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self._command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
        self._log, self._variables = log, dict(variables or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: SimpleQueue[bytes] = SimpleQueue()

    def _start(self) -> subprocess.Popen[bytes]:
        self._lines = SimpleQueue()
        with self._log.open("ab") as errors:
            process = subprocess.Popen(
                self._command,
                cwd=PROJECT,
                env={**os.environ, **self._variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        threading.Thread(target=_read, args=(process, self._lines), daemon=True).start()
        Child._alive.add(self)
        return process

    def ask(self, question: str, seconds: float, /, **values: object) -> Answer:
        """Ask a question and wait for the answer.

        Raises:
            LostError: there is none within so many seconds; the process is ended then.
            RefusedError: the answer is an error.
        """
        self._process = process = self._process or self._start()
        assert process.stdin
        # A pipe that is closed shows below, with the reason.
        with suppress(OSError):
            process.stdin.write(json.dumps({"question": question, **values}).encode() + b"\n")
            process.stdin.flush()
        try:
            line = self._lines.get(timeout=max(0.0, seconds))
        except Empty:
            self.kill()
            raise LateError(f"{question}: no answer within {seconds:.0f} s", self._tail()) from None
        if not line:
            said = f"{question}: the process ended with {_ending(process.wait())}"
            self.kill()
            raise LostError(said, self._tail())
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise RefusedError(answer["error"], self._tail())
        return answer

    def _tail(self) -> list[str]:
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return [line[:300] for line in text.splitlines() if line.strip()][-LOG_LINES:]

    def kill(self) -> None:
        """End the process and those that it has started, compilers for instance."""
        Child._alive.discard(self)
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(process.pid)
            for each in [*first.children(recursive=True), first]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()

    @classmethod
    def kill_all(cls) -> None:
        """End every process that lives."""
        for child in list(cls._alive):
            child.kill()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def _read(process: subprocess.Popen[bytes], lines: SimpleQueue[bytes]) -> None:
    assert process.stdout
    for line in process.stdout:
        lines.put(line)
    lines.put(b"")


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def serve(answers: Mapping[str, Callable[..., Answer]]) -> None:
    """The process's side: answers questions by name until there are no more."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not get between the answers
    for line in sys.stdin.buffer:
        values = json.loads(line)
        try:
            answer = answers[values.pop("question")](**values)
        except Exception as error:
            traceback.print_exc()
            if _STICKY in str(error):
                raise  # nothing works any more: another process takes the next question
            answer = {"error": f"{type(error).__name__}: {first_line(error)}"}
        out.write(json.dumps(answer).encode() + b"\n")
