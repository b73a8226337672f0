"""What can be chosen for fine-tuning; every field is one of the Makefile's variables."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ...errors import ExportError

AUTO = "auto"
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""By the name that TRAIN_PRECISION gives: what Lightning calls it. Weights are float32 in all of them."""
FROZEN, LEARNED = "frozen", "learned"


@dataclass(frozen=True)
class Options:
    """How a network is fine-tuned."""

    stages: int = 0
    """So many of the last stages learn, and the new head; 0: the whole network."""
    epochs: int = 30
    """Longest training: how often each example is seen. The learning rate falls over all of it."""
    folds: int = 5
    """Trainings that measure, each without other videos; one more makes the archive."""
    rate: float = 3e-4
    """Learning rate at its peak."""
    batch: int = 8
    """Clips of a step."""
    accumulate: int = 0
    """Parts that a step's clips go through the network in, for little memory. 0: one on a GPU, and one for each
    clip on a CPU, which is as fast; one where BatchNorm's statistics are learned, since they are of a part."""
    mirror: bool = False
    """Mirror half of the clips. Not by default: labels may be left and right."""
    batch_norm: str = FROZEN
    """``frozen``: BatchNorm keeps the statistics of the base. A few clips at a time say little of the mean over
    all, and what a network learns to make up for their noise is not there when it serves. ``learned``: those of
    each step, for many clips and large batches."""
    seed: int = 0
    """Of all that is random."""
    train_precision: str = AUTO
    """``fp32``, ``bf16``, ``fp16``, or ``auto``: fp32 on a CPU; on a GPU bf16, or fp16 where it has no bf16."""
    devices: int = 1
    """GPUs, or processes on a CPU, that share each step's clips."""
    cache_gb: float = 8.0
    """Most gigabytes of decoded clips on disk. What does not fit is decoded each time."""
    work: Path = Path("build/learn")
    """Folder for logs, and for what a killed run goes on from."""

    def check(self, device: str) -> None:
        """Refuse what cannot work.

        Args:
            device: ``cpu`` or ``cuda``.

        Raises:
            ExportError: a value is out of range, or not possible on this host.
        """
        for name, least, most in (
            ("epochs", 1, 10_000),
            ("folds", 2, 10),
            ("batch", 1, 4096),
            ("accumulate", 0, 4096),
        ):
            if not least <= getattr(self, name) <= most:
                raise ExportError(
                    f"{name.upper()}={getattr(self, name)} is out of range", f"It is {least} to {most}."
                )
        if not 0 < self.rate <= 1:
            raise ExportError(f"RATE={self.rate:g} is no learning rate", "It is above 0 and at most 1: 0.0003.")
        if self.batch_norm not in (FROZEN, LEARNED):
            raise ExportError(
                f"BATCH_NORM={self.batch_norm} is not known", f"There are {FROZEN} and {LEARNED}."
            )
        if self.train_precision not in (AUTO, *PRECISIONS):
            raise ExportError(
                f"TRAIN_PRECISION={self.train_precision} is not known",
                f"There are {', '.join((AUTO, *PRECISIONS))}.",
            )
        if device == "cpu" and self.train_precision == "fp16":
            raise ExportError("TRAIN_PRECISION=fp16 is for GPUs", "Use fp32, or bf16.")
        there = torch.cuda.device_count() if device == "cuda" else self.devices
        if not 1 <= self.devices <= max(1, there):
            raise ExportError(
                f"DEVICES={self.devices}, but there are {there} GPUs here", "Use as many, or fewer."
            )
        if self.batch % (self.devices * max(1, self.accumulate)):
            raise ExportError(
                f"BATCH={self.batch} clips cannot be shared by {self.devices} devices in {self.accumulate} "
                "parts",
                "BATCH is a multiple of DEVICES x ACCUMULATE.",
            )

    def parts(self, device: str) -> int:
        """Parts that a process's clips of a step go through the network in."""
        if self.accumulate:
            return self.accumulate
        return self.batch // self.devices if device == "cpu" and self.batch_norm == FROZEN else 1

    def lightning_precision(self, device: str) -> str:
        """What Lightning calls the precision."""
        if self.train_precision != AUTO:
            return PRECISIONS[self.train_precision]
        if device == "cpu":
            return PRECISIONS["fp32"]
        return PRECISIONS["bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"]

    def deciding(self) -> dict[str, Any]:
        """What the result depends on, as JSON can write it."""
        values = asdict(self)
        del values["work"], values["cache_gb"]
        return values


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command line. An empty value counts as not given."""
    own = Options()
    group = parser.add_argument_group("METHOD=finetune")
    for field in fields(Options):
        default = getattr(own, field.name)
        group.add_argument(
            f"--{field.name.replace('_', '-')}", default="", help=f"{_HELP[field.name]}; default: {default}"
        )


def read(given: argparse.Namespace, error: Callable[[str], Any]) -> Options:
    """The options of a command line.

    Args:
        given: what was parsed.
        error: called with what is wrong; does not return.
    """
    own = Options()
    values: dict[str, Any] = {}
    for field in fields(Options):
        text, kind = getattr(given, field.name), type(getattr(own, field.name))
        if not text:
            continue
        if not re.fullmatch(_FORMS[kind], text):
            error(f"--{field.name.replace('_', '-')} must be {_WORDS[kind]}, got {text!r}")
        values[field.name] = text == "1" if kind is bool else kind(text)
    return Options(**values)


_PATH: type = type(Path())
_FORMS = {
    int: "[0-9]{1,9}",
    float: r"[0-9]{1,9}(\.[0-9]{1,9})?(e-?[0-9]{1,2})?",
    bool: "[01]",
    str: "[a-z0-9]+",
    _PATH: "(?s).+",
}
_WORDS = {int: "a whole number", float: "a number", bool: "0 or 1", str: "a word", _PATH: "a folder"}
_HELP = {
    "stages": "train so many of the last stages; 0: all",
    "epochs": "how often each example is seen at most",
    "folds": "trainings that measure",
    "rate": "learning rate at its peak",
    "batch": "clips of a step",
    "accumulate": "parts that a step's clips are taken in",
    "mirror": "1: mirror half of the clips",
    "batch_norm": "frozen or learned: BatchNorm's statistics",
    "seed": "of all that is random",
    "train_precision": "auto, fp32, bf16 or fp16",
    "devices": "GPUs that share each step's clips",
    "cache_gb": "most gigabytes of decoded clips on disk",
    "work": "folder for logs, and for what a killed run goes on from",
}
