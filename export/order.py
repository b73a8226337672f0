"""What is to be built: the Makefile's variables, and the reading of those that are more than a word."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from actionrec.limits import Limits
from actionrec.manifest import read_labels

from .errors import ExportError
from .quantise.choose import WANTED, Closeness

AUTO = "auto"


@dataclass(frozen=True)
class Order:
    """What is to be built; every field is one of the Makefile's variables."""

    model: str = AUTO
    name: str = ""
    """Of the endpoint; empty: the model's."""
    weights: str = ""
    """Empty (the model's own), a path, a URL or ``random``."""
    weights_sha256: str = ""
    labels: Path | None = None
    """A text file; None: the model's own labels."""
    runtime: str = AUTO
    fallback: bool = True
    """Put the portable artifact beside one that is compiled for this kind of host."""
    calibration: Path | None = None
    """Of int8: a folder with videos; None: generated clips."""
    int8_tolerance: str = ""
    """Of int8, where it is not the default: ``top1_agreement=0.95 mean_score_difference=0.05``."""
    sandbox: bool | str = True
    """Decode clips in child processes; what is served to strangers must. ``require``: with all defences that
    matter."""
    decode: str = "cpu"
    """``gpu``: decode large videos on the GPU, in the worker, outside the sandbox."""
    limits: str = ""
    """Those that are not the default: ``pixels=33177600 decode_seconds=20``."""
    precision: str = AUTO
    device: str = AUTO
    crop_pixels: int | None = None
    version: str = "1.0"
    store: Path = Path("model_store")
    seed: int = 0
    """Of random weights."""


def labels_of(path: Path | None) -> tuple[str, ...] | None:
    """The user's labels."""
    if path is None:
        return None
    try:
        return read_labels(path)
    except (OSError, ValueError) as error:
        raise ExportError(
            f"LABELS={path} cannot be used: {error}", "One label a line, in class order."
        ) from error


def limits_of(text: str) -> Limits:
    """The user's limits, the others at their defaults."""
    try:
        pairs = [pair.split("=") for pair in text.split()]
        return Limits.from_dict({name: _number(value) for name, value in pairs})
    except ValueError as error:
        raise ExportError(
            f"LIMITS={text!r} cannot be used: {error}", "As in: LIMITS='pixels=33177600 decode_seconds=20'"
        ) from error


def check_decode(order: Order, device: str) -> None:
    """Check that DECODE goes with the other variables.

    Args:
        order: what is wanted.
        device: what the archive is for, ``cpu`` or ``cuda``.

    Raises:
        ExportError: it does not.
    """
    if order.decode != "gpu":
        return
    if order.sandbox == "require":
        raise ExportError(
            "DECODE=gpu decodes outside the sandbox, and SANDBOX=require insists on it",
            "Leave DECODE out for videos of strangers, or SANDBOX=require for your own.",
        )
    if device != "cuda":
        raise ExportError(
            "DECODE=gpu is for a model that runs on a GPU, and this archive is for a CPU",
            "Build with DEVICE=cuda on the machine with the GPU.",
        )


def tolerance_of(text: str) -> Closeness:
    """The user's tolerance for int8, the rest at its defaults."""
    names = {"top1_agreement": "top1_agreement", "mean_score_difference": "mean_difference"}
    try:
        given = {
            names[name]: float(_number(value)) for name, value in (pair.split("=") for pair in text.split())
        }
        if any(value > 1 for value in given.values()):
            raise ValueError("shares and scores are 1 at most")
    except (KeyError, ValueError) as error:
        raise ExportError(
            f"INT8_TOLERANCE={text!r} cannot be used: {error}",
            "As in: INT8_TOLERANCE='top1_agreement=0.95 mean_score_difference=0.05'",
        ) from error
    return replace(WANTED, **given)


def _number(text: str) -> int | float:
    """A limit in ASCII digits. YAML's and Python's own readers also take 1_0, 0x10, 1:30 and other scripts'."""
    if not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,9})?", text):
        raise ValueError(f"{text!r} is not a number")
    return float(text) if "." in text else int(text)
