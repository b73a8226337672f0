"""``python -m tests.faults [NAME ...]``: run faults at full length; exit code 1 where a promise is broken."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from .faults import FAULTS
from .harness import PROJECT
from .soak import soak


def main() -> int:
    """Run them and say what was measured."""
    runs = {**FAULTS, "soak": (soak, 3600.0)}
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults on a real server.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(runs)}; default: all but soak")
    parser.add_argument("--seconds", type=float, help="of each; default: its full length")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--archive", type=Path, help="of the motion model; default: one is built")
    options = parser.parse_args()
    # A server must not be left behind by `kill`, no more than by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if unknown := set(options.names) - set(runs):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    console = Console(highlight=False)
    broken = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as store:
        archive = options.archive or _build(Path(store))
        for name in options.names or FAULTS:
            run, full = runs[name]
            seconds = options.seconds or full
            console.print(f"[bold]{name}[/] for {seconds:g} s, seed {options.seed} ...")
            began = time.monotonic()
            verdict = run(archive, seconds, options.seed)
            for figure, value in verdict.figures.items():
                console.print(f"  {figure:<34} {value}")
            for promise in verdict.broken:
                console.print(f"  [red]broken:[/] {promise}", markup=True)
            end = "[red]FAILED[/]" if verdict.broken else "[green]kept[/]"
            console.print(f"  {end} after {time.monotonic() - began:.0f} s")
            broken += bool(verdict.broken)
    return 1 if broken else 0


def _build(store: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "export",
        "--model",
        "motion",
        "--runtime",
        "torchscript",
        "--store",
        str(store),
    ]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return store / "motion.mar"


if __name__ == "__main__":
    sys.exit(main())
