"""The archives that are measured on."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.model import random_r50
from export.build import Order, build

R50 = "slowfast_r50"


def archive(model: str, store: Path) -> Path:
    """Build the bundled model, or a full-size SlowFast R50 with random weights; returns the .mar's path."""
    store.mkdir(parents=True, exist_ok=True)
    weights = store / "weights.pth"
    if model == R50:
        torch.save(random_r50()[1].state_dict(), weights)
    order = Order(model=model, weights=str(weights) if model == R50 else "", store=store)
    return build(order, Console(quiet=True)).path


def unpacked(mar: Path) -> Path:
    """The folder of an archive's files, next to it."""
    folder = mar.with_suffix("")
    zipfile.ZipFile(mar).extractall(folder)
    return folder
