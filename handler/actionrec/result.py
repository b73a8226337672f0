"""Scores -> labels, and the shape of a reply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from .decoded import Decoded
from .errors import ClipWarning
from .manifest import Form, Manifest
from .runtime import Scores
from .segments import distinct, segments


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went, in milliseconds; transform and inference are its batches'."""

    decode: float
    transform: float
    inference: float


@dataclass(frozen=True, slots=True)
class WindowScores:
    """What the model says of one window."""

    clip: Decoded
    """Where it is from; without its frames."""
    scores: Scores | None
    """float32 [classes], probabilities, the mean of its crops; None where it could not be decoded."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one request."""

    windows: tuple[WindowScores, ...]
    """In order; at least one of them with scores."""
    crops: int
    """Views of each window."""
    timeline: bool
    """Whether the windows were asked for one by one, and not for their mean."""
    timings_ms: Timings

    @property
    def answered(self) -> list[WindowScores]:
        """The windows with scores."""
        return [window for window in self.windows if window.scores is not None]

    @property
    def scores(self) -> Scores:
        """float32 [classes], probabilities: the mean of all views."""
        rows = [window.scores for window in self.windows if window.scores is not None]
        mean: Scores = np.mean(rows, axis=0, dtype=np.float32)
        return mean

    @property
    def cuts(self) -> list[float]:
        """When the picture changes at once, in seconds; looked for in timelines only."""
        return distinct(seconds for window in self.answered for seconds in window.clip.cuts)

    def to_dict(self, manifest: Manifest, form: Form, top_k: int) -> dict[str, Any]:
        """The reply's JSON object, with the `top_k` best labels.

        Args:
            manifest: of the archive.
            form: the one that was served.
            top_k: how many labels.
        """
        reply: dict[str, Any] = {"predictions": _best(self.scores, manifest.labels, top_k)}
        if self.timeline:
            reply["segments"] = self._segments(manifest.labels)
            reply["cuts"] = [round(seconds, 3) for seconds in self.cuts]
            reply["timeline"] = [self._entry(window, manifest.labels, top_k) for window in self.windows]
        reply["clip"] = self._clip()
        reply["model"] = {
            "name": manifest.name,
            "version": manifest.version,
            "weights": manifest.weights,
            "runtime": form.runtime,
            "precision": form.precision,
        }
        reply["timings_ms"] = {
            "decode": round(self.timings_ms.decode, 1),
            "transform": round(self.timings_ms.transform, 1),
            "inference": round(self.timings_ms.inference, 1),
        }
        reply["warnings"] = _once_each(w for window in self.windows for w in window.clip.warnings)
        return reply

    def _clip(self) -> dict[str, Any]:
        clips = [window.clip for window in self.answered]
        return {
            "start_seconds": round(clips[0].start_seconds, 3),
            "end_seconds": round(clips[-1].end_seconds, 3),
            "source_frames": sum(clip.source_frames for clip in clips),
            "source_fps": round(fmean(clip.source_fps for clip in clips), 2),
            "width": clips[0].width,
            "height": clips[0].height,
            "views": {"windows": len(clips), "crops": self.crops},
        }

    def _entry(self, window: WindowScores, labels: Sequence[str], top_k: int) -> dict[str, Any]:
        return {
            "start_seconds": round(window.clip.start_seconds, 3),
            "end_seconds": round(window.clip.end_seconds, 3),
            "predictions": [] if window.scores is None else _best(window.scores, labels, top_k),
            "warnings": [warning.to_dict() for warning in window.clip.warnings],
        }

    def _segments(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        answered = self.answered
        spans = [(window.clip.start_seconds, window.clip.end_seconds) for window in answered]
        rows = np.stack([window.scores for window in answered if window.scores is not None])
        return [segment.to_dict(labels[segment.class_index]) for segment in segments(spans, rows, self.cuts)]


def _best(scores: Scores, labels: Sequence[str], top_k: int) -> list[dict[str, Any]]:
    # Stable, so that equal scores come in the order of the classes.
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": labels[i], "class_index": int(i), "score": round(float(scores[i]), 6)} for i in best]


def _once_each(warnings: Iterable[ClipWarning]) -> list[dict[str, str]]:
    """The first warning of each code, with how many windows more have one of its kind."""
    first: dict[str, ClipWarning] = {}
    more: dict[str, int] = {}
    for warning in warnings:
        more[warning.code] = more.get(warning.code, -1) + 1
        first.setdefault(warning.code, warning)
    return [
        ClipWarning(code, warning.message + (f" ({more[code]} windows more.)" if more[code] else "")).to_dict()
        for code, warning in first.items()
    ]
