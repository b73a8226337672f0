"""Clips for calibrating int8: the user's own, or generated ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from actionrec.errors import ClipError
from actionrec.limits import Limits
from actionrec.spec import ClipSpec
from actionrec.video.decode import decode
from actionrec.video.resize import Pixels
from torch import Tensor

from .errors import ExportError
from .samples import calibration_clips

GENERATED = 32
"""Clips that are generated."""
MOST = 64
"""Of the user's clips; further ones tell little more, and each takes a second to run in floating point."""
_FEWEST = 8
_SEED = 5000
"""Of generated clips: others than those of random weights and of the parity check."""


@dataclass(frozen=True)
class Calibration:
    """Clips, half of which are observed while the others judge."""

    clips: Tensor
    """int16 [N, T, H, W, 3]"""
    names: tuple[str, ...]
    """Of the files; empty for generated clips."""
    source: str
    """Where they are from, in words."""

    @property
    def observed(self) -> Tensor:
        """Every other clip, from the first on."""
        return self.clips[::2]

    @property
    def judging(self) -> Tensor:
        """The clips between those."""
        return self.clips[1::2]

    @property
    def judging_names(self) -> tuple[str, ...]:
        """Names of the judging clips."""
        return self.names[1::2]


def generated(spec: ClipSpec) -> Calibration:
    """Generated clips: scenes and noise, so that both halves have both."""
    clips = calibration_clips(spec, GENERATED, _SEED)
    pairs = torch.arange(GENERATED).view(-1, 2, 2).transpose(1, 2).flatten()
    return Calibration(clips[pairs], (), f"{GENERATED} generated clips")


def from_folder(folder: Path, spec: ClipSpec, limits: Limits, say: Callable[[str], object]) -> Calibration:
    """The videos of a folder, through the decoding that serves: the first window of each.

    Args:
        folder: searched with all that is in it, in the order of names.
        spec: what the model eats.
        limits: of the archive.
        say: is told of each file that cannot be decoded.

    Raises:
        ExportError: it is no folder, or has too few videos.
    """
    if not folder.is_dir():
        raise ExportError(f"CALIBRATION={folder} is no folder", "Name a folder with some of your videos.")
    clips: list[Pixels] = []
    names: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        if len(clips) == MOST:
            break
        try:
            clips.append(decode(path.read_bytes(), spec, limits=limits).frames)
            names.append(str(path.relative_to(folder)))
        except (ClipError, OSError) as error:
            say(f"{path} is left out: {error}")
    if len(clips) < _FEWEST:
        raise ExportError(
            f"CALIBRATION={folder} has {len(clips)} videos that can be decoded, and {_FEWEST} are needed",
            f"Add some: {MOST} tell as much as there is to tell. Without CALIBRATION clips are generated.",
        )
    return Calibration(torch.from_numpy(np.stack(clips)), tuple(names), f"{len(clips)} videos of {folder.name}")
