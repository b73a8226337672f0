"""``python -m tests.fuzz``: fuzz what is let in. It goes on where it was stopped, and fails with findings."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path

from actionrec.sandbox import Sandbox
from rich.console import Console

from .apart import observe_apart
from .case import LIMITS, SPEC, Case
from .keep import keep, write_outcomes
from .loop import Loop, through
from .store import Store

_ROOT = Path("build/fuzz")


def main() -> int:
    """Fuzz, or look at one file."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, help="of this run")
    parser.add_argument("--count", type=int, help="inputs, of all runs together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", type=Path, help="this input alone")
    parser.add_argument("--outcomes", action="store_true", help="write down those of tests/seeds/found anew")
    parser.add_argument("--keep", metavar="NAME", help="shrink --file and put it into tests/seeds/found")
    parser.add_argument(
        "--showing", default="", metavar="TEXT", help="of FFmpeg's messages, to stay with --keep"
    )
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if given.outcomes:
        with Sandbox(SPEC, LIMITS, 1) as sandbox:
            write_outcomes(sandbox)
        return 0
    if given.file is not None:
        with Sandbox(SPEC, LIMITS, 1) as sandbox:
            if given.keep:
                console.print(keep(given.file.read_bytes(), given.keep, given.showing, sandbox), markup=False)
                return 0
            return _look(given.file.read_bytes(), sandbox, console)
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is missing; install it: pip install --editable '.[fuzz]'")
    os.nice(10)
    store = Store(_ROOT)
    loop = Loop(store, console, given.seed)
    try:
        loop.run(given.minutes * 60 if given.minutes is not None else None, given.count)
    except KeyboardInterrupt:
        store.save(loop.state)
        return 130
    counts = loop.state.counts
    for name, times in sorted(counts.outcomes.items(), key=lambda item: -item[1]):
        console.print(f"{times:9,}  {name}")
    console.print(f"{counts.tried:,} tried in {counts.seconds / 60:.0f} minutes, {counts.lost} targets lost")
    for signature, name in loop.state.findings.items():
        console.print(f"{store.findings / name}: {signature}", style="red", markup=False)
    return 1 if loop.state.findings else 0


def _look(given: bytes, sandbox: Sandbox, console: Console) -> int:
    """What an input does, in a process of its own and in the sandbox."""
    found = observe_apart(given)
    there = through(sandbox, Case.parse(given))
    console.print(f"{found.outcome}; in the sandbox: {there}", markup=False)
    console.print(found.signature(given) if found.finding else "no finding", markup=False)
    console.print(f"{found.demuxer} {found.codec}, {found.views} views of {found.frames} frames", markup=False)
    console.print(f"{found.cpu_seconds:.2f} s of CPU, {found.peak_bytes / 1_048_576:.0f} MB")
    for line in (*sorted(found.shapes), found.error):
        console.print(line, markup=False)
    return 1 if found.finding or there.startswith("internal") else 0


if __name__ == "__main__":
    raise SystemExit(main())
