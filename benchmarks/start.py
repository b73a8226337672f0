"""Cold start and memory: `make serve` with a full-size SlowFast R50, to READY and over many requests."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import requests
import torch
from rich.console import Console

from benchmarks.measure import report
from benchmarks.model import random_r50
from benchmarks.videos import video
from deploy.management import get_models
from deploy.server import Settings, start, stop
from export.build import Order, build

PROJECT = Path(__file__).parent.parent
STARTS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--model", choices=("slowfast_r50", "motion"), default="slowfast_r50")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        weights = ""
        if options.model == "slowfast_r50":
            weights = str(home / "weights.pth")
            torch.save(random_r50()[1].state_dict(), weights)
        build(Order(model=options.model, weights=weights, store=home / "store"), Console(quiet=True))
        rows = [_served(home, 1) for _ in range(STARTS - 1)] + [_served(home, options.requests)]
    report(f"start_{options.model}", f"{options.model}: from `make serve` to READY, and memory", rows)


def _served(home: Path, count: int) -> dict[str, Any]:
    run_dir = home / "run"
    settings = Settings(
        home / "store", config=PROJECT / "config.properties", run_dir=run_dir, log_dir=home / "logs", port=0
    )
    begun = time.monotonic()
    state = start(settings)
    ready = time.monotonic() - begun
    try:
        (model,) = get_models(state.management_url, state.models)
        (worker,) = model.workers
        process = worker.process()
        if process is None:
            raise RuntimeError("the worker is gone")
        data, url = video(340, 256), state.predict_url()
        with requests.Session() as session:
            marks = []
            for number in range(count):
                session.post(url, data=data, timeout=120).raise_for_status()
                if number in (0, count // 2, count - 1):
                    marks.append(_resident_mb(process))
    finally:
        stop(run_dir)
    return {
        "ready after s": ready,
        "requests": count,
        "worker MB after the first": marks[0],
        "half way": marks[len(marks) // 2],
        "at the end": marks[-1],
    }


def _resident_mb(process: psutil.Process) -> float:
    """Of the worker and its children; memory that they share counts once."""
    family = [process, *process.children(recursive=True)]
    return float(sum(member.memory_full_info().pss for member in family)) / 1e6


if __name__ == "__main__":
    main()
