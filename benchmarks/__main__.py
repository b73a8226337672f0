"""``make bench``: every measurement, one after the other, each in a process of its own; then the pictures."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measure import console

STEPS = (
    "decode",
    "timeline",
    "edges",
    "model",
    "job",
    "sandbox",
    "serve",
    "jvm",
    "upload",
    "batching",
    "process",
    "start",
    "claims",
    "stream_encoding",
    "pictures",
)


def main() -> int:
    failed = []
    for step in STEPS:
        console.rule(step)
        # A process each: what one leaves in the caches of an allocator or of FFmpeg must not help the next.
        if subprocess.run([sys.executable, "-W", "ignore", "-m", f"benchmarks.{step}"], check=False).returncode:
            failed.append(step)
    if failed:
        console.print(f"error: no result of {', '.join(failed)}", style="red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
