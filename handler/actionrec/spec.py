"""What a model eats: every number of the recipe, in one place.

A `ClipSpec` is built by `export`, travels inside the archive's ``model-config.yaml`` and is read from
there by the handler. Nothing else in the project repeats one of its numbers.

    source frames   |.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|...|   at the clip's own rate, by timestamp
    window          [------------ window_seconds -----------)
    fast pathway     x   x   x   x   x   x   x   x   x   x     num_frames, uniform
    slow pathway     x           x           x           x     num_frames // alpha of those
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

STEPS_PER_LEVEL = 128
"""Decoded pixels are int16 in steps of 1/128 of a level (0..255). Resizing gives fractions of a level; rounding
them to whole levels moves a score by up to 0.05 (benchmarks/results/precision.json)."""


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """The input recipe of a SlowFast model.

    The defaults are those of pytorchvideo's ``slowfast_r50`` (8x8), from its model card and PySlowFast's
    ``SLOWFAST_8x8_R50.yaml``. Mean and standard deviation are on pixels in 0..1 and are not ImageNet's.
    """

    num_frames: int = 32
    """Frames of the fast pathway."""
    sampling_rate: int = 2
    """Stride between those frames, in frames at `fps`."""
    fps: float = 30.0
    """The rate that `sampling_rate` counts in; the clip's own rate plays no part."""
    short_side: int = 256
    """The shorter edge of a frame after the resize, in pixels."""
    crop: int = 256
    """Edge of the square centre crop, in pixels; at most `short_side`."""
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    """Per channel (RGB), of pixels in 0..1."""
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    """Per channel (RGB), of pixels in 0..1."""
    alpha: int = 4
    """Frames of the fast pathway for one of the slow pathway."""

    def __post_init__(self) -> None:
        for name in ("num_frames", "sampling_rate", "fps", "short_side", "crop", "alpha"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"ClipSpec.{name} must be a number above 0, got {value!r}")
        if self.crop > self.short_side:
            raise ValueError(f"ClipSpec.crop must be at most short_side={self.short_side}, got {self.crop}")
        if self.num_frames % self.alpha:
            raise ValueError(f"ClipSpec.num_frames={self.num_frames} must be a multiple of alpha={self.alpha}")
        for name in ("mean", "std"):
            value = tuple(float(x) for x in getattr(self, name))
            if len(value) != 3:
                raise ValueError(f"ClipSpec.{name} must have one value per RGB channel, got {value!r}")
            object.__setattr__(self, name, value)
        if min(self.std) <= 0:
            raise ValueError(f"ClipSpec.std must be above 0, got {self.std!r}")

    @property
    def window_seconds(self) -> float:
        """Length of the span of video that one prediction looks at, in seconds (64/30 by default)."""
        return self.num_frames * self.sampling_rate / self.fps

    @property
    def slow_frames(self) -> int:
        """Frames of the slow pathway."""
        return self.num_frames // self.alpha

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain lists and numbers, for YAML and JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipSpec:
        """The inverse of `to_dict`.

        Raises:
            ValueError: a field is missing, unknown, or out of range.
        """
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            raise ValueError(
                f"a ClipSpec needs exactly the fields {sorted(names)}; "
                f"missing {sorted(names - set(values))}, unknown {sorted(set(values) - names)}"
            )
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)
