"""Measuring: candidates take turns, and medians are compared.

Machines are shared and drift, so no candidate is timed alone: each one runs once per round, and the result is
the median over the rounds and its ratio to the median of a baseline in the same run.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "torchvision", "pytorchvideo", "av", "numpy", "opencv-python-headless")
_RIVALS = ("openvino", "nncf", "onnxruntime")
"""Named where they are installed."""
_STATE = (
    "name",
    "driver_version",
    "memory.total",
    "memory.used",
    "power.limit",
    "power.draw",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "temperature.gpu",
)

LOAD_BEFORE = os.getloadavg()[0]
"""Processes that wanted the processor in the minute before this one began."""
QUIET_LOAD = 0.5
"""Above this, other work takes part of what is measured."""
_ANYHOW = "BENCHMARK_ANYHOW"
"""Environment variable with which a busy machine's figures are written too."""

console = Console(width=110, highlight=False)


def machine() -> dict[str, Any]:
    """The machine and versions that figures were measured with."""
    names = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    }
    return {
        "cpu": ", ".join(sorted(names)),
        "cores": os.cpu_count(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "gpu": None,
        **(_gpu() if torch.cuda.is_available() else {}),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in (*_PACKAGES, *filter(_version, _RIVALS))},
        "load_before": LOAD_BEFORE,
    }


def _gpu() -> dict[str, Any]:
    """The GPU that is used, and what runs it. 3-D convolutions depend on cuDNN more than on torch."""
    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "gpu_state": gpu_state(),
    }


def gpu_state() -> list[dict[str, str]]:
    """What nvidia-smi says of each GPU at this moment: driver, power, clocks, heat; empty without it."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_STATE)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split(", ") for line in done.stdout.splitlines() if line.strip())
    return [dict(zip(_STATE, row, strict=False)) for row in rows]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def interleaved_ms(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    settle: bool = False,
) -> dict[str, float]:
    """Median milliseconds of each candidate; each one runs once before that, uncounted.

    Args:
        candidates: name -> function to time.
        rounds: how often each one runs.
        clock: returns seconds; `time.thread_time` suits work on one thread, which other work then hardly
            affects.
        settle: run a candidate once more, uncounted, before each counted run: see `load.round_robin`.
    """
    for run in candidates.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            if settle:
                run()
            start = clock()
            run()
            taken[name].append((clock() - start) * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def report(name: str, title: str, rows: list[dict[str, Any]], notes: Mapping[str, Any] | None = None) -> None:
    """Print rows as a table, and write them with the machine to ``results/<name>.json``.

    Figures of a busy machine are not written, unless `BENCHMARK_ANYHOW` is set: they would replace better ones.
    """
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(_shown, row.values()))
    console.print(table)
    if LOAD_BEFORE > QUIET_LOAD and not os.environ.get(_ANYHOW):
        console.print(
            f"not written: other work ran before this (load {LOAD_BEFORE:.1f}, quiet is {QUIET_LOAD}). "
            f"Run it on a quiet machine, or set {_ANYHOW}=1",
            style="red",
        )
        return
    RESULTS.mkdir(exist_ok=True)
    document = {"title": title, "machine": machine(), **(notes or {}), "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
