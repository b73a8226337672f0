"""Targets one after the other; after each, what it found is tried again, shrunk and kept."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from actionrec.errors import ClipError
from actionrec.sandbox import Sandbox
from rich.console import Console

from .apart import observe_apart
from .case import LIMITS, SPEC, Case
from .feedback import Behaviour
from .shrink import shrink
from .store import State, Store

_SLICE_SECONDS = 600
"""Of one target: then its findings are looked at, and another one begins with a clean memory."""
_REPORT_SECONDS = 30.0
_TRIES = 3
"""For a crash to happen again."""
_ORDINARY = re.compile(r"200|4\d\d (?!DECODE)\w+")
"""What comes of a file; the codes that begin so are of children that were lost."""


class Loop:
    """Fuzzing until time or inputs are used up.

    Args:
        store: where all is kept.
        console: for progress.
        seed: of the mutations.
        shrink_seconds: for each finding.
    """

    def __init__(self, store: Store, console: Console, seed: int, shrink_seconds: float = 120.0) -> None:
        self._store = store
        self._console = console
        self._seed = seed
        self._shrink_seconds = shrink_seconds
        self.state: State = store.load()

    def run(self, seconds: float | None, inputs: int | None) -> None:
        """Fuzz.

        Args:
            seconds: of wall clock, of this run; None: no bound.
            inputs: to try, of all runs together; None: no bound.
        """
        stop = time.monotonic() + seconds if seconds is not None else float("inf")
        made = self._store.write_seeds()
        self._say(
            f"{made} seeds, {self._corpus()} inputs in the corpus, {self.state.counts.tried:,} tried before"
        )
        with Sandbox(SPEC, LIMITS, 1) as sandbox:
            while time.monotonic() < stop and (inputs is None or self.state.counts.tried < inputs):
                left = inputs - self.state.counts.tried if inputs is not None else -1
                self._one_target(left, int(min(_SLICE_SECONDS, max(1.0, stop - time.monotonic()))))
                for path in sorted(self._store.candidates.iterdir()):
                    self.look_at(path.read_bytes())
                    path.unlink()
                self._store.save(self.state)
                self._try_sandbox(sandbox)
                self._store.save(self.state)

    def _one_target(self, inputs: int, seconds: int) -> None:
        seed = (self._seed * 1_000_003 + self.state.counts.tried) % 2**31 + 1
        log = self._store.root / "target.log"
        command = [sys.executable, "-m", "tests.fuzz.target", str(self._store.root)]
        command += ["--runs", str(inputs), "--seconds", str(seconds), "--seed", str(seed)]
        self._store.take_counts()
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as target:
            try:
                while target.poll() is None:
                    try:
                        target.wait(_REPORT_SECONDS)
                    except subprocess.TimeoutExpired:
                        self._report()
            finally:
                target.kill()
        counts = self._store.take_counts()
        if target.returncode:
            if not counts.tried:
                raise RuntimeError(f"the target did not start; its own words are in {log}")
            counts.lost = 1
            self._store.suspect(self._store.last.read_bytes(), "lost")
        self.state.counts.add(counts)
        for path in self._store.root.glob("artifact-*"):
            path.unlink()

    def look_at(self, given: bytes, observe: Callable[[bytes], Behaviour] = observe_apart) -> None:
        """Keep a candidate that does it again, as small as it can be made.

        Args:
            given: the input.
            observe: what an input does.
        """
        found = next((found for _ in range(_TRIES) if (found := observe(given)).finding), None)
        if found is None:
            self._say(f"a candidate of {len(given):,} bytes did nothing when it was tried again")
            return
        signature = found.signature(given)
        if signature in self.state.findings:
            return
        small = shrink(
            given, lambda smaller: observe(smaller).signature(smaller) == signature, self._shrink_seconds
        )
        path = self._store.keep(small, len(given), observe(small), signature)
        self.state.findings[signature] = path.name
        self._console.print(f"FOUND {path}: {signature}, {len(small):,} bytes", style="red", markup=False)

    def _try_sandbox(self, sandbox: Sandbox) -> None:
        """What is new in the corpus goes through the sandbox too, where nothing else may go wrong."""

        def both(given: bytes) -> Behaviour:
            found, there = observe_apart(given), through(sandbox, Case.parse(given))
            if found.finding or found.outcome == there:
                return found
            return replace(found, outcome="differs", error=f"{found.outcome} here, {there} in the sandbox")

        known = set(self.state.sandboxed)
        names = {path.name for path in self._store.corpus.iterdir()}
        for name in sorted(names - known):
            given = (self._store.corpus / name).read_bytes()
            there = through(sandbox, Case.parse(given))
            if not _ORDINARY.fullmatch(there) and both(given).finding:
                self.look_at(given, both)
        self.state.sandboxed = sorted(names)

    def _corpus(self) -> int:
        return sum(1 for _ in self._store.corpus.iterdir())

    def _report(self) -> None:
        now = self._store.peek_counts()
        rate = now.tried / now.seconds if now.seconds else 0.0
        self._say(
            f"{self.state.counts.tried + now.tried:,} tried ({rate:.0f} a second), {self._corpus():,} in the "
            f"corpus, {len(self.state.findings)} findings, {self.state.counts.lost} targets lost"
        )

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


def through(sandbox: Sandbox, case: Case) -> str:
    """The outcome of a case in the sandbox: ``200``, status and code of the error, or ``internal``."""
    try:
        for _ in sandbox.windows(case.data, SPEC, case.selection, LIMITS):
            pass
    except ClipError as error:
        return f"{error.status} {error.code}"
    except RuntimeError as error:
        return f"internal: {error}"
    return "200"
