"""What ``python -m deploy status`` shows: models, their workers, where each runs, and the settings in force."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence

from actionrec.worker import Report
from rich.markup import escape
from rich.table import Table

from .host import mps_runs
from .launch import reports_of
from .management import Model, Worker
from .state import State


def table(state: State, models: Sequence[Model]) -> Table:
    """One row for each worker; models that the server does not know have a row too.

    Args:
        state: the server's state.
        models: what the server says of them.
    """
    rows = Table("model", "version", "worker", "pid", "status", "device", "memory", "queue")
    for model in models:
        first = (model.name, model.version)
        for worker in model.workers:
            memory = worker.memory_mb
            colour = "green" if worker.status == "READY" else "red"
            rows.add_row(
                *first,
                worker.id,
                str(worker.pid) if worker.pid > 0 else "-",
                f"[{colour}]{worker.status}[/{colour}]",
                device(state, worker),
                "-" if memory is None else f"{memory:.0f} MB",
                str(model.pending_requests),
            )
            first = ("", "")
        if not model.workers:
            rows.add_row(*first, "-", "-", "[red]no worker[/red]", "-", "-", str(model.pending_requests))
    for name in sorted(set(state.models) - {model.name for model in models}):
        rows.add_row(name, "-", "-", "-", "[red]not loaded[/red]", "-", "-", "-")
    return rows


def device(state: State, worker: Worker) -> str:
    """Where a worker's model runs, as the worker itself has said: ``cpu``, or the GPU's number; ``-``: not yet.

    TorchServe's own answer tells only whether it gave the worker a GPU, not whether the worker can use it.
    """
    report = _report(state, worker)
    if report is None:
        return "-"
    kind, _, index = report.device.partition(":")
    numbers = state.gpu_numbers
    known = kind == "cuda" and index.isdecimal() and int(index) < len(numbers)
    return f"GPU {numbers[int(index)]}" if known else report.device


def settings(state: State, models: Sequence[Model]) -> list[str]:
    """The settings in force, one a line: those of each model, and of the GPUs where there are any."""
    lines = []
    for model in models:
        reports = [report for worker in model.workers if (report := _report(state, worker))]
        threads = sorted({report.decode_threads for report in reports})
        lines.append(
            f"{escape(model.name)}: batches of up to {model.batch}, {model.queue} requests may wait"
            + (f", each worker decodes {' or '.join(map(str, threads))} at once" if threads else "")
        )
    used = Counter(device(state, worker) for model in models for worker in model.workers)
    gpus = [f"GPU {number}" for number in state.gpu_numbers]
    if gpus:
        mps = "MPS runs" if mps_runs() else "MPS does not run"
        lines.append(f"workers on {', '.join(f'{gpu}: {used[gpu]}' for gpu in gpus)}; {mps}")
    if used["cpu"] and has_gpus(state):
        lines.append(
            f"[yellow]{used['cpu']} on the CPU, though there is a GPU[/yellow]: "
            f"{escape(state.log_dir)}/model_log.log says why"
        )
    return lines


def has_gpus(state: State) -> bool:
    """Whether the server's host has GPUs, used or not."""
    return bool(state.gpus) or shutil.which("nvidia-smi") is not None


def _report(state: State, worker: Worker) -> Report | None:
    return Report.load(reports_of(state.temp_dir), worker.pid)
