"""The archives for the measurements."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.model import random_r50
from benchmarks.peers import NULL
from export.archive import SERVING, write_checksum
from export.build import Order, build

R50 = "slowfast_r50"


def archive(model: str, store: Path, precision: str = "auto") -> Path:
    """Build the bundled model, or a full-size SlowFast R50 with random weights; returns the .mar's path."""
    store.mkdir(parents=True, exist_ok=True)
    weights = store / "weights.pth"
    if model == R50:
        torch.save(random_r50()[1].state_dict(), weights)
    order = Order(model=model, weights=str(weights) if model == R50 else "", precision=precision, store=store)
    return build(order, Console(quiet=True)).path


def unpacked(mar: Path) -> Path:
    """Unpack an archive next to it; returns the folder."""
    folder = mar.with_suffix("")
    zipfile.ZipFile(mar).extractall(folder)
    return folder


def null_archive(folder: Path) -> Path:
    """Make a store in `folder` with a model that answers at once; returns its path."""
    store = folder / "store"
    store.mkdir()
    config = folder / "model-config.yaml"
    config.write_text("".join(f"{key}: {value}\n" for key, value in SERVING.items()), encoding="utf-8")
    handler = Path(__file__).parent / "peers" / "null_handler.py"
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", NULL, "--version", "1.0"]
    command += ["--handler", str(handler), "--config-file", str(config), "--export-path", str(store)]
    subprocess.run(command, check=True, capture_output=True)
    write_checksum(store / f"{NULL}.mar")
    return store
