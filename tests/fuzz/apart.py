"""One input decoded in a process of its own, which may die of it: a crash and endless time are outcomes."""

from __future__ import annotations

import multiprocessing
import resource
import signal
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection

from .case import LIMITS, Case
from .feedback import Behaviour, limit_memory, observe

_PATIENCE_SECONDS = 120.0
"""For a process that waits; one that works is ended before, by its CPU time."""


@cache
def _context() -> multiprocessing.context.ForkServerContext:
    """Processes are forked from one that has imported everything and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz.feedback"])
    return context


def limit_time(seconds: int) -> None:
    """End this process after so much CPU time: wall clock says little on a machine that is busy."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def decode(given: bytes, results: Connection) -> None:
    """Send back what an input does."""
    limit_memory()
    limit_time(int(LIMITS.decode_seconds))
    results.send(observe(Case.parse(given)))


def observe_apart(
    given: bytes, seconds: float = _PATIENCE_SECONDS, work: Callable[[bytes, Connection], None] = decode
) -> Behaviour:
    """What an input does. Where its process takes too long, the outcome is ``timeout``.

    Args:
        given: as `Case.dump` gives it.
        seconds: of wall clock.
        work: takes the input, and where to send its behaviour.
    """
    ours, its = _context().Pipe(duplex=False)
    process = _context().Process(target=work, args=(given, its), daemon=True)
    process.start()
    its.close()
    try:
        if not ours.poll(seconds):
            process.kill()
            return Behaviour("timeout", cpu_seconds=seconds)
        found = ours.recv()
        return found if isinstance(found, Behaviour) else Behaviour("crash")
    except EOFError:
        process.join()
        code = process.exitcode or 0
        if code == -signal.SIGXCPU:
            return Behaviour("timeout", cpu_seconds=LIMITS.decode_seconds)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Behaviour("crash", error=how)
    finally:
        process.join()
        process.close()
        ours.close()
