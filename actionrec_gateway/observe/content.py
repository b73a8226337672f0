"""What is sent and what is answered, as figures. Where they drift, a model sees videos that are new to it.

Only replies with one answer are looked at, which are short; a timeline's are not.
"""

from __future__ import annotations

import json
from typing import Any

from prometheus_client import Counter, Histogram

from .metrics import REGISTRY

SCORE = Histogram(
    "actionrec_best_score",
    "Score of the best label",
    ("model",),
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    registry=REGISTRY,
)
SPAN = Histogram(
    "actionrec_video_span_seconds",
    "Length of what was looked at",
    ("model",),
    buckets=(0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
    registry=REGISTRY,
)
SIDE = Histogram(
    "actionrec_video_short_side_pixels",
    "Shorter side of the video, as it is shown",
    ("model",),
    buckets=(120, 180, 240, 360, 480, 720, 1080, 1440, 2160),
    registry=REGISTRY,
)
RATE = Histogram(
    "actionrec_video_frames_per_second",
    "Measured rate of the video",
    ("model",),
    buckets=(5, 10, 15, 24, 25, 30, 50, 60, 120),
    registry=REGISTRY,
)
VIDEOS = Counter("actionrec_videos", "Videos, by how they are coded", ("model", "codec"), registry=REGISTRY)
WARNINGS = Counter(
    "actionrec_warnings", "Warnings of replies, by their code", ("model", "code"), registry=REGISTRY
)


def note(reply: bytes) -> None:
    """Count what a whole reply says; one of another kind is left out.

    Args:
        reply: the engine's JSON.
    """
    try:
        said: dict[str, Any] = json.loads(reply)
        model, clip = str(said["model"]["name"]), said["clip"]
        figures = (
            (SCORE, float(said["predictions"][0]["score"])),
            (SPAN, float(clip["end_seconds"]) - float(clip["start_seconds"])),
            (SIDE, float(min(clip["width"], clip["height"]))),
            (RATE, float(clip["source_fps"])),
        )
        codec = str(clip.get("codec") or "unknown")  # an archive of an older version does not say
        codes = [str(warning["code"]) for warning in said["warnings"]]
    except (ValueError, KeyError, IndexError, TypeError):
        return
    for histogram, value in figures:
        histogram.labels(model).observe(value)
    VIDEOS.labels(model, codec).inc()
    for code in codes:
        WARNINGS.labels(model, code).inc()
