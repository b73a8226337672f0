"""A training, in this process or in one for each GPU; what is done already is not done again."""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from multiprocessing import get_context
from threading import Thread
from typing import Any

import torch
from actionrec.errors import ClipError
from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessRaisedException

from training.loop import DivergedError, train
from training.whole import save

from ...errors import ExportError
from .course import Job, Listener, Tuning

_RESULT, _KEPT = "result.pt", "kept.pt"
_END = "end"


def result_of(job: Job, tell: Listener) -> dict[str, Any]:
    """Train, or go on with a training, or read what an earlier run gave.

    Args:
        job: what is to be done.
        tell: is told what happens.

    Returns:
        ``rows``: the log. ``logits``: float32 [epochs + 1, windows, classes] of the held-out windows, where
        there are any. ``model``: the weights in the end, where nothing is held out.

    Raises:
        ExportError: it diverged, or a process failed.
    """
    path = job.folder / _RESULT
    if not path.exists():
        job.folder.mkdir(parents=True, exist_ok=True)
        _run(job, tell)
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def _run(job: Job, tell: Listener) -> None:
    options = job.options
    # It says which devices there are, at each start.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    several = options.devices > 1
    fabric = Fabric(
        accelerator=job.device,
        devices=options.devices,
        strategy="ddp_spawn" if several else "auto",
        precision=options.lightning_precision(job.device),  # type: ignore[arg-type]
    )
    try:
        if not several:
            fabric.launch(partial(_train, job=job, tell=tell))
            return
        events = get_context("spawn").SimpleQueue()
        listener = Thread(target=_hear, args=(events, tell), daemon=True)
        listener.start()
        try:
            fabric.launch(partial(_train_apart, job=job), events)
        finally:
            events.put((_END, None))
            listener.join()
    except (DivergedError, ProcessRaisedException) as error:
        last = str(error).strip().splitlines()[-1]
        raise ExportError(
            f"{job.title}: {last.removeprefix(f'{DivergedError.__module__}.{DivergedError.__qualname__}: ')}",
            f"A lower learning rate may help: RATE={options.rate / 3:.1g}.",
        ) from error
    except (ClipError, OSError) as error:
        raise ExportError(
            f"{job.title} stopped: {error}", "Run this again, and it goes on from where it stopped."
        ) from error


def _train(fabric: Fabric, job: Job, tell: Listener | None) -> None:
    kept = job.folder / _KEPT
    with contextlib.closing(Tuning(job, fabric, tell if fabric.is_global_zero else None)) as course:
        train(fabric, course, kept, job.options.seed)
        if fabric.is_global_zero:
            result: dict[str, Any] = {"rows": course.rows}
            if job.held_out:
                result["logits"] = torch.stack(course.logits)
            else:
                result["model"] = {name: value.cpu() for name, value in course.model.state_dict().items()}
            save(job.folder / _RESULT, result)
            kept.unlink()


def _train_apart(fabric: Fabric, events: Any, job: Job) -> None:  # noqa: ANN401
    """The same in a process of its own, which tells through a queue."""
    _train(fabric, job, lambda event, value: events.put((event, value)))


def _hear(events: Any, tell: Listener) -> None:  # noqa: ANN401
    for event, value in iter(events.get, (_END, None)):
        tell(event, value)
