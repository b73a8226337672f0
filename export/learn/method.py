"""What a way of learning gets and gives. `learn.METHODS` has them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actionrec.manifest import Artifact, Manifest
from actionrec.reply import Scores

from .. import build
from .data import Example, Listing
from .finetune.options import Options
from .measure import Measured
from .progress import Teller


@dataclass(frozen=True)
class Task:
    """What is to be learned, and on top of what."""

    listing: Listing
    """Enough of it: `Listing.check`."""
    manifest: Manifest
    """The base archive's."""
    directory: Path
    """The base archive, unpacked. The method changes it into what the new archive has: artifacts and head."""
    device: str
    """Where the base runs here: ``cpu`` or ``cuda``."""
    tell: Teller
    name: str = ""
    """Of the new archive."""
    order: build.Order = field(default_factory=build.Order)
    """Its runtime, precision and device, for methods that export the network anew."""
    options: Options = field(default_factory=Options)
    """Of fine-tuning."""


@dataclass(frozen=True)
class Outcome:
    """What was learned; the artifacts and their head lie in `Task.directory`."""

    listing: Listing
    """What it was learned from: the task's, without what turned out to be unreadable."""
    artifacts: tuple[Artifact, ...]
    """The new archive's, the best first."""
    weights: str
    """``sha256:<hex>`` of the network's weights."""
    measured: Measured
    how: str
    """How it was measured, in one sentence."""
    settings: Mapping[str, Any]
    """What was chosen on the way: plain numbers and words."""
    expected: tuple[tuple[Example, Scores], ...]
    """Some examples with the scores that the archive must give their windows, float32 [windows, classes]."""


Method = Callable[[Task], Outcome]
"""Raises ExportError where nothing can be learned."""
