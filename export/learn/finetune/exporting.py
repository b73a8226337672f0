"""A network that has learned -> artifacts, by the steps of a build.

In a process of its own: the names in a traced module depend on all that was traced before it, and a run that
was killed shall give the same archive.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from actionrec.manifest import Artifact, Manifest
from rich.console import Console
from torch import Tensor

from ... import artifacts, build
from ...calibration import Calibration
from ...quantise.choose import WANTED, Quantising
from .network import Network, State

Exported = tuple[tuple[Artifact, ...], str]
"""The best first, and why there are not as many as were asked for."""


@dataclass(frozen=True)
class Exporting:
    """What is to be exported, and how."""

    network: Network
    state: State
    manifest: Manifest
    targets: tuple[artifacts.Target, ...]
    directory: Path
    """For the artifacts and the head."""
    clips: Tensor
    """int16 [N, T, H, W, 3], which int8 is calibrated on; N may be 0 for others."""
    names: tuple[str, ...]
    """Of the clips."""
    strict: bool
    """Whether all targets must be had."""
    on_stderr: bool
    """Where its lines go."""


def exported(what: Exporting) -> Exported:
    """Export a network.

    Raises:
        ExportError: an artifact cannot be had, or gives other scores than the network.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_exported, what).result()


def _exported(what: Exporting) -> Exported:
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
    quantising = None
    console = Console(stderr=what.on_stderr)
    if any(target.precision == artifacts.INT8 for target in what.targets):
        source = f"{len(what.clips)} of the videos that were learned from"
        quantising = Quantising(Calibration(what.clips, what.names, source), WANTED, console.print)
    net = what.network.build(what.state)
    torch.set_grad_enabled(False)
    return build.exported(
        net, what.manifest, what.targets, what.directory, console, quantising, strict=what.strict
    )
