"""``make bench``: every measurement, one after the other, each in its own process; then the pictures."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measure import console

STEPS = (
    "decode",
    "timeline",
    "edges",
    "model",
    "models",
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
        # Each step has its own process, so that caches of an allocator or of FFmpeg do not help the next one.
        if subprocess.run([sys.executable, "-W", "ignore", "-m", f"benchmarks.{step}"], check=False).returncode:
            failed.append(step)
    if failed:
        console.print(f"error: no result of {', '.join(failed)}", style="red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
