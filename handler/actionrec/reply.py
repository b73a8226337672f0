"""Scores of windows -> the JSON object that answers a request. Needs numpy alone.

The server makes its replies here. So does the client, which merges the replies to the parts of a long video.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ClipWarning
from .explanation import Explanation, to_base64
from .head import Floats
from .problems import unsure
from .segments import distinct, segments

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds that one request took. Transform and inference are those of the batches that it was in."""

    decode: float
    transform: float
    inference: float

    def to_dict(self) -> dict[str, float]:
        """The ``timings_ms`` object of a reply."""
        return {
            "decode": round(self.decode, 1),
            "transform": round(self.transform, 1),
            "inference": round(self.inference, 1),
        }


@dataclass(frozen=True, slots=True)
class Window:
    """One window: its scores, and which part of the video it is."""

    start_seconds: float
    """Seconds from the video's first frame."""
    end_seconds: float
    """Seconds at which its frames end: earlier than requested where the video is shorter."""
    scores: Scores | None
    """float32 [classes], probabilities, the mean over its crops; None where it could not be decoded."""
    embedding: Floats | None = None
    """float32 [features], the mean over its crops; None where it is not wanted, or could not be decoded."""
    source_frames: int = 0
    """Frames of the video inside it, before sampling."""
    source_fps: float = 0.0
    """Frames a second inside it; 0 where it has one frame only."""
    width: int = 0
    """Pixels of the video as shown (after rotation)."""
    height: int = 0
    """Pixels of the video as shown (after rotation)."""
    codec: str = ""
    """How the video is coded, by FFmpeg's name."""
    shot_boundaries: tuple[float, ...] = ()
    """Seconds from the video's first frame at which the picture changes at once; timelines only."""
    warnings: tuple[ClipWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one request."""

    windows: tuple[Window, ...]
    """In order of time; at least one has scores."""
    crops: int
    """Crops of each window."""
    timeline: bool
    """Whether each window is reported on its own (`stride_seconds`), beside the mean of all."""
    timings_ms: Timings
    embedding_in_base64: bool = False
    """Whether a reply has the embedding as base64 of little-endian float32. Default: as numbers."""
    explanation: Explanation | None = None
    """Why a label has its score, where that is wanted."""

    @property
    def answered(self) -> list[Window]:
        """The windows with scores."""
        return [window for window in self.windows if window.scores is not None]

    @property
    def scores(self) -> Scores:
        """float32 [classes], probabilities: the mean of all views."""
        mean: Scores = np.mean(self._rows(), axis=0, dtype=np.float32)
        return mean

    @property
    def embedding(self) -> Floats | None:
        """float32 [features]: the mean of all windows'; None where it is not wanted."""
        rows = [window.embedding for window in self.windows if window.embedding is not None]
        return np.mean(rows, axis=0, dtype=np.float32) if rows else None

    @property
    def shot_boundaries(self) -> list[float]:
        """Seconds at which the picture changes at once, without repetitions; timelines only."""
        return distinct(seconds for window in self.answered for seconds in window.shot_boundaries)

    def to_dict(self, labels: Mapping[int, str], top_k: int, model: Mapping[str, Any]) -> dict[str, Any]:
        """The reply's JSON object.

        Args:
            labels: class index -> label, of every class that may be named.
            top_k: how many labels to name.
            model: the reply's ``model`` object. Where it has ``unsure_below``, lower best scores get a warning.
        """
        below: float = model.get("unsure_below", 0.0)
        reply: dict[str, Any] = {"predictions": _best(self.scores, labels, top_k)}
        if (embedding := self.embedding) is not None:
            reply["embedding"] = self._encoded(embedding)
        if self.explanation is not None:
            reply["explanation"] = self.explanation.to_dict(labels[self.explanation.class_index])
        if self.timeline:
            reply["segments"] = self._segments(labels)
            reply["cuts"] = [round(seconds, 3) for seconds in self.shot_boundaries]
            reply["timeline"] = [self._entry(window, labels, top_k, below) for window in self.windows]
        reply["clip"] = self._clip()
        reply["model"] = dict(model)
        reply["timings_ms"] = self.timings_ms.to_dict()
        warnings = [warning for window in self.windows for warning in window.warnings]
        reply["warnings"] = _once_each([*_unsure(self.scores, below), *warnings])
        return reply

    def _rows(self) -> list[Scores]:
        return [window.scores for window in self.windows if window.scores is not None]

    def _entry(
        self, window: Window, labels: Mapping[int, str], top_k: int, unsure_below: float
    ) -> dict[str, Any]:
        entry = {
            "start_seconds": round(window.start_seconds, 3),
            "end_seconds": round(window.end_seconds, 3),
            "predictions": [] if window.scores is None else _best(window.scores, labels, top_k),
            "warnings": [
                warning.to_dict() for warning in (*_unsure(window.scores, unsure_below), *window.warnings)
            ],
        }
        if self.embedding is not None:
            entry["embedding"] = None if window.embedding is None else self._encoded(window.embedding)
        return entry

    def _encoded(self, embedding: Floats) -> list[float] | str:
        return to_base64(embedding) if self.embedding_in_base64 else embedding.tolist()

    def _clip(self) -> dict[str, Any]:
        windows = self.answered
        first, last = windows[0], windows[-1]
        return {
            "start_seconds": round(first.start_seconds, 3),
            "end_seconds": round(last.end_seconds, 3),
            "source_frames": sum(window.source_frames for window in windows),
            "source_fps": round(fmean(window.source_fps for window in windows), 2),
            "width": first.width,
            "height": first.height,
            "codec": first.codec,
            "views": {"windows": len(windows), "crops": self.crops},
        }

    def _segments(self, labels: Mapping[int, str]) -> list[dict[str, Any]]:
        spans = [(window.start_seconds, window.end_seconds) for window in self.answered]
        found = segments(spans, np.stack(self._rows()), self.shot_boundaries)
        return [segment.to_dict(labels[segment.class_index]) for segment in found]


def _best(scores: Scores, labels: Mapping[int, str], top_k: int) -> list[dict[str, Any]]:
    # Stable: equal scores stay in the order of the classes.
    best = [index for index in np.argsort(-scores, kind="stable").tolist() if index in labels][:top_k]
    return [{"label": labels[i], "class_index": i, "score": round(float(scores[i]), 6)} for i in best]


def _unsure(scores: Scores | None, below: float) -> list[ClipWarning]:
    """The warning that the best of the scores is below a threshold, if it is."""
    best = below if scores is None else float(scores.max())
    return [unsure(best, below)] if best < below else []


def _once_each(warnings: Iterable[ClipWarning]) -> list[dict[str, str]]:
    """The first warning of each code, with the number of other windows that have this code."""
    first: dict[str, ClipWarning] = {}
    more: dict[str, int] = {}
    for warning in warnings:
        more[warning.code] = more.get(warning.code, -1) + 1
        first.setdefault(warning.code, warning)
    return [
        ClipWarning(code, warning.message + (f" ({more[code]} windows more.)" if more[code] else "")).to_dict()
        for code, warning in first.items()
    ]
