"""Cold start and memory: `make serve` with a full-size SlowFast R50, until READY and over many requests."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import requests

from benchmarks.archives import R50, archive
from benchmarks.load import DEADLINE_SECONDS, torchserve
from benchmarks.measure import report
from benchmarks.videos import video
from deploy.management import get_models

STARTS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--model", choices=(R50, "motion"), default=R50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive(options.model, Path(folder))
        rows = [_served(Path(folder), 1) for _ in range(STARTS - 1)] + [_served(Path(folder), options.requests)]
    report(f"start_{options.model}", f"{options.model}: from `make serve` to READY, and memory", rows)


def _served(store: Path, count: int) -> dict[str, Any]:
    begun = time.monotonic()
    with torchserve(store) as state:
        ready = time.monotonic() - begun
        (model,) = get_models(state.management_url, state.models)
        (worker,) = model.workers
        process = worker.process()
        if process is None:
            raise RuntimeError("the worker is gone")
        data, url = video(340, 256), state.predict_url()
        with requests.Session() as session:
            marks = []
            for number in range(count):
                session.post(url, data=data, timeout=DEADLINE_SECONDS).raise_for_status()
                if number in (0, count // 2, count - 1):
                    marks.append(_resident_mb(process))
    return {
        "ready after s": ready,
        "requests": count,
        "worker MB after the first": marks[0],
        "half way": marks[len(marks) // 2],
        "at the end": marks[-1],
    }


def _resident_mb(process: psutil.Process) -> float:
    """Memory of the worker and its children in MB; shared memory counts once."""
    family = [process, *process.children(recursive=True)]
    return float(sum(member.memory_full_info().pss for member in family)) / 1e6


if __name__ == "__main__":
    main()
