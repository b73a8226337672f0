"""``make bench``: every measurement, one after the other, each in its own process; then the pictures."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.measure import QUIET_LOAD, console

STEPS = (
    "decode",
    "timeline",
    "edges",
    "explain",
    "learn",
    "model",
    "models",
    "job",
    "sandbox",
    "serve",
    "jvm",
    "upload",
    "gateway",
    "day",
    "batching",
    "process",
    "start",
    "claims",
    "stream_encoding",
    "scale",
    "pictures",
)


_QUIET_SECONDS = 240.0
"""Seconds in which a load of 4 falls below `QUIET_LOAD`, and some more."""


def main() -> int:
    failed = []
    for step in STEPS:
        console.rule(step)
        _wait_until_quiet()
        # Each step has its own process, so that caches of an allocator or of FFmpeg do not help the next one.
        if subprocess.run([sys.executable, "-W", "ignore", "-m", f"benchmarks.{step}"], check=False).returncode:
            failed.append(step)
    if failed:
        console.print(f"error: no result of {', '.join(failed)}", style="red")
    return 1 if failed else 0


def _wait_until_quiet() -> None:
    """Let the load of the step before die away; other work's does not, and the step says so."""
    deadline = time.monotonic() + _QUIET_SECONDS
    while os.getloadavg()[0] > QUIET_LOAD and time.monotonic() < deadline:
        time.sleep(5)


if __name__ == "__main__":
    sys.exit(main())
