"""What a model eats: every number of the recipe, in one place.

A `ClipSpec` is built by `export`, travels inside the archive's ``model-config.yaml`` and is read from
there by the handler. Nothing else in the project repeats one of its numbers.

    source frames   |.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|.|...|   at the clip's own rate, by timestamp
    window          [------------ window_seconds -----------)
    last pathway     x   x   x   x   x   x   x   x   x   x     num_frames, uniform; what decoding samples
    slower pathway   x           x           x           x     as many as it takes of those, uniform
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
    """The input recipe of a model.

    The defaults are those of pytorchvideo's ``slowfast_r50`` (8x8), from its model card and PySlowFast's
    ``SLOWFAST_8x8_R50.yaml``. Mean and standard deviation are on pixels in 0..1 and are not ImageNet's.
    """

    pathways: tuple[int, ...] = (8, 32)
    """Frames of each pathway, the slowest first: (8, 32) for SlowFast 8x8, (13,) for X3D-S. The last pathway
    takes all `num_frames`; the others take theirs out of those, spread evenly."""
    sampling_rate: int = 2
    """Stride between `num_frames`, in frames at `fps`."""
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

    def __post_init__(self) -> None:
        counts = self.pathways
        if not isinstance(counts, tuple) or not counts or not all(type(n) is int and n > 0 for n in counts):
            raise ValueError(
                f"ClipSpec.pathways must be a frame count above 0 for each pathway, got {counts!r}"
            )
        if list(counts) != sorted(counts):
            raise ValueError(f"ClipSpec.pathways must have the slowest pathway first, got {counts!r}")
        for name in ("sampling_rate", "fps", "short_side", "crop"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"ClipSpec.{name} must be a number above 0, got {value!r}")
        if self.crop > self.short_side:
            raise ValueError(f"ClipSpec.crop must be at most short_side={self.short_side}, got {self.crop}")
        for name in ("mean", "std"):
            value = tuple(float(x) for x in getattr(self, name))
            if len(value) != 3:
                raise ValueError(f"ClipSpec.{name} must have one value per RGB channel, got {value!r}")
            object.__setattr__(self, name, value)
        if min(self.std) <= 0:
            raise ValueError(f"ClipSpec.std must be above 0, got {self.std!r}")

    @property
    def num_frames(self) -> int:
        """Frames of one window that decoding gives: those of the last pathway."""
        return self.pathways[-1]

    @property
    def window_seconds(self) -> float:
        """Length of the span of video that one prediction looks at, in seconds (64/30 by default)."""
        return self.num_frames * self.sampling_rate / self.fps

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain lists and numbers, for YAML and JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def describe(self) -> dict[str, Any]:
        """`to_dict` and what follows from it, for readers of the description that a server gives of its model.

        ``num_frames`` and ``alpha`` (frames of the last pathway for one of the first) are what clients from
        before `pathways` read.
        """
        return {
            **self.to_dict(),
            "num_frames": self.num_frames,
            "alpha": self.num_frames // self.pathways[0],
            "window_seconds": round(self.window_seconds, 4),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipSpec:
        """The inverse of `to_dict`. Archives from before `pathways` have ``num_frames`` and ``alpha`` instead.

        Raises:
            ValueError: a field is missing, unknown, or out of range.
        """
        values = _with_pathways(values)
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            raise ValueError(
                f"a ClipSpec needs exactly the fields {sorted(names)}; "
                f"missing {sorted(names - set(values))}, unknown {sorted(set(values) - names)}"
            )
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)

    @classmethod
    def from_description(cls, values: Mapping[str, Any]) -> ClipSpec:
        """What `describe` says, by a server of this version, an older one or a newer one: fields that are not
        known here are left out.

        Raises:
            ValueError: a field is missing or out of range.
        """
        values = _with_pathways(values)
        return cls.from_dict({f.name: values[f.name] for f in fields(cls) if f.name in values})


def _with_pathways(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a SlowFast from before `ClipSpec.pathways` as they are now; others as they are."""
    if "pathways" in values or not {"num_frames", "alpha"} <= set(values):
        return values
    rest = dict(values)
    frames, alpha = rest.pop("num_frames"), rest.pop("alpha")
    if type(frames) is not int or type(alpha) is not int or alpha < 1 or frames % alpha:
        raise ValueError(f"num_frames={frames!r} must be a multiple of alpha={alpha!r}")
    return {**rest, "pathways": [frames // alpha, frames]}
