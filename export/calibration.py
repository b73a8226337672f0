"""Clips for calibrating int8: the user's own, or generated ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from actionrec.errors import ClipError
from actionrec.limits import Limits
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec
from actionrec.video.decode import windows
from actionrec.video.decoded import Decoded
from actionrec.video.resize import Pixels
from torch import Tensor

from .errors import ExportError
from .samples import calibration_clips

GENERATED = 32
"""Clips that are generated; of the user's as many, if need be by several windows of each video."""
MOST = 64
"""Of the user's clips; further ones tell little more, and each takes a second to run in floating point."""
_FEWEST = 8
_Clip = tuple[str, Pixels]
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
    """The videos of a folder, through the decoding that serves: a window of each, or of few videos several.

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
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    selection = Selection(views=math.ceil(GENERATED / max(1, len(files))))
    videos: list[list[_Clip]] = []
    for path in files:
        if len(videos) == MOST:
            break
        try:
            found = _clips(str(path.relative_to(folder)), windows(path.read_bytes(), spec, selection, limits))
            videos += [found] if found else []
        except (ClipError, OSError) as error:
            say(f"{path} is left out: {error}")
    if len(videos) < _FEWEST:
        raise ExportError(
            f"CALIBRATION={folder} has {len(videos)} videos that can be decoded, and {_FEWEST} are needed",
            f"Add some: {MOST} tell as much as there is to tell. Without CALIBRATION clips are generated.",
        )
    names, clips = zip(*_alternately(videos), strict=True)
    source = f"{len(clips)} clips of {len(videos)} videos of {folder.name}"
    return Calibration(torch.from_numpy(np.stack(clips)), names, source)


def _clips(name: str, found: Iterable[Decoded]) -> list[_Clip]:
    """The windows of a video, with names by which people find them."""
    return [
        (f"{name}, {one.start_seconds:.1f} s" if number else name, one.frames)
        for number, one in enumerate(found)
        if not one.missing
    ]


def _alternately(videos: Sequence[Sequence[_Clip]]) -> Iterator[_Clip]:
    """Clips of one video and of another in turn, so that each half (`Calibration`) has videos of its own."""
    for pair in zip(videos[::2], videos[1::2], strict=False):
        for clips in zip(*pair, strict=False):
            yield from clips
    if len(videos) % 2:
        yield videos[-1][0]
