"""``python -m benchmarks.gpu STAGE``: one stage of the checks of a GPU host. ``scripts/gpu-check`` calls it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmarks.apart import PROJECT
from benchmarks.gpu import correct, figures, served
from benchmarks.gpu.plan import PRECISIONS, REHEARSAL, RUNTIMES, Deadline, Places, Plan
from benchmarks.gpu.record import Row
from benchmarks.gpu.stage import CORRECT, CannotRunError, Stage, begin, stopped_by_sigterm, summary
from benchmarks.measure import console

STAGES: dict[str, Callable[[Stage], list[Row]]] = {
    CORRECT: correct.run,
    "figures": figures.run,
    "served": served.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a stage.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        Exit code: 0; 1 where a row failed or was not reached, or the stage cannot run here.
    """
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    add = parser.add_argument
    add("stage", choices=STAGES)
    add("--rehearse", action="store_true", help="on the CPU, with small sizes, through the same code")
    add("--seconds", type=float, default=600.0, help="what is not done by then is left to do")
    add("--out", type=Path, default=PROJECT / "build" / "gpu", help="folder of the results")
    add("--work", type=Path, default=PROJECT / "build" / "gpu-work", help="folder of what is made on the way")
    add("--fresh", action="store_true", help="do again what an earlier run has done")
    add("--models", nargs="+", help="the first is measured and served, all are compared")
    add("--runtimes", nargs="+", choices=RUNTIMES)
    add("--precisions", nargs="+", choices=PRECISIONS)
    add("--batches", type=int, nargs="+")
    add("--clients", type=int, nargs="+")
    given = vars(parser.parse_args(arguments))
    plan = REHEARSAL if given["rehearse"] else Plan()
    chosen: dict[str, Any] = {
        each.name: tuple(given[each.name]) for each in fields(Plan) if given.get(each.name)
    }
    plan = replace(plan, **chosen)
    places = Places(given["out"].resolve(), given["work"].resolve())
    try:
        stage = begin(given["stage"], plan, places, Deadline(given["seconds"]), fresh=given["fresh"])
        with stopped_by_sigterm(stage):
            answered = STAGES[given["stage"]](stage)
    except CannotRunError as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    return summary(stage.record, answered)


if __name__ == "__main__":
    sys.exit(main())
