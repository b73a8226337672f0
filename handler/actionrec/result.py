"""Scores -> labels, and the shape of a reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .decode import Decoded
from .manifest import Form, Manifest
from .runtime import Scores


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went, in milliseconds; transform and inference are its batch's."""

    decode: float
    transform: float
    inference: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one request."""

    scores: Scores
    """float32 [classes], probabilities."""
    clip: Decoded
    timings_ms: Timings

    def to_dict(self, manifest: Manifest, form: Form, top_k: int) -> dict[str, Any]:
        """The reply's JSON object, with the `top_k` best labels.

        Args:
            manifest: of the archive.
            form: the one that was served.
            top_k: how many labels.
        """
        # Stable, so that equal scores come in the order of the classes.
        best = np.argsort(-self.scores, kind="stable")[:top_k]
        clip = self.clip
        return {
            "predictions": [
                {"label": manifest.labels[i], "class_index": int(i), "score": round(float(self.scores[i]), 6)}
                for i in best
            ],
            "clip": {
                "start_seconds": round(clip.start_seconds, 3),
                "end_seconds": round(clip.end_seconds, 3),
                "source_frames": clip.source_frames,
                "source_fps": round(clip.source_fps, 2),
                "width": clip.width,
                "height": clip.height,
            },
            "model": {
                "name": manifest.name,
                "version": manifest.version,
                "weights": manifest.weights,
                "runtime": form.runtime,
                "precision": form.precision,
            },
            "timings_ms": {
                "decode": round(self.timings_ms.decode, 1),
                "transform": round(self.timings_ms.transform, 1),
                "inference": round(self.timings_ms.inference, 1),
            },
            "warnings": [warning.to_dict() for warning in clip.warnings],
        }
