"""Replies to the parts of a video -> the reply to the whole, in the shape of a server's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from actionrec.sampling import Windows
from actionrec.segments import distinct, segments

from .errors import Refused

TOP_K = 5
"""What a server's reply has where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of windows that one request asks for."""

    first: int
    count: int
    data: bytes
    offset_seconds: float
    last: bool


def span(chosen: Windows, first: int, count: int) -> tuple[float, float]:
    """From the start of a run of windows to its end, in seconds."""
    start = chosen.first_seconds + first * chosen.step_seconds
    return start, start + (count - 1) * chosen.step_seconds + chosen.seconds


def merged(
    replies: list[tuple[Piece, dict[str, Any] | Refused]], chosen: Windows, classes: int | None, top_k: int
) -> dict[str, Any]:
    """One reply of several.

    Args:
        replies: in the order of their windows; an error for a part of which nothing could be decoded.
        chosen: the windows of the whole.
        classes: of the model; None: the largest index seen.
        top_k: labels to keep.

    Raises:
        Refused: nothing could be decoded of any part.
    """
    answered = [(piece, reply) for piece, reply in replies if not isinstance(reply, Refused)]
    if not answered:
        raise next(reply for _, reply in replies if isinstance(reply, Refused))
    entries: list[dict[str, Any]] = []
    for piece, reply in replies:
        entries += _gap(piece, chosen, reply) if isinstance(reply, Refused) else _moved(piece, reply)
    good = [entry for entry in entries if entry["predictions"]]
    labels = {p["class_index"]: p["label"] for entry in good for p in entry["predictions"]}
    scores = np.zeros((len(good), classes or max(labels) + 1))
    for row, entry in zip(scores, good, strict=True):
        for prediction in entry["predictions"]:
            row[prediction["class_index"]] = prediction["score"]
    spans = [(entry["start_seconds"], entry["end_seconds"]) for entry in good]
    cuts = distinct(seconds + piece.offset_seconds for piece, reply in answered for seconds in reply["cuts"])
    first = answered[0][1]
    clips = [reply["clip"] for _, reply in answered]
    views = dict(first["clip"].get("views", {}), windows=len(good))
    return {
        "predictions": _best(scores.mean(axis=0), labels, top_k),
        "segments": [s.to_dict(labels[s.class_index]) for s in segments(spans, scores, cuts)],
        "cuts": [round(seconds, 3) for seconds in cuts],
        "timeline": [{**entry, "predictions": entry["predictions"][:top_k]} for entry in entries],
        "clip": {
            **first["clip"],
            "start_seconds": spans[0][0],
            "end_seconds": spans[-1][1],
            "source_frames": sum(clip["source_frames"] for clip in clips),
            "source_fps": round(float(np.mean([clip["source_fps"] for clip in clips])), 2),
            "views": views,
        },
        "model": first["model"],
        "timings_ms": _sums([reply["timings_ms"] for _, reply in answered]),
        "warnings": list({w["code"]: w for _, reply in answered for w in reply["warnings"]}.values()),
    }


def _moved(piece: Piece, reply: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A part's windows at their times in the whole."""
    return [
        {
            **entry,
            "start_seconds": round(entry["start_seconds"] + piece.offset_seconds, 3),
            "end_seconds": round(entry["end_seconds"] + piece.offset_seconds, 3),
        }
        for entry in reply["timeline"]
    ]


def _gap(piece: Piece, chosen: Windows, error: Refused) -> list[dict[str, Any]]:
    """A part of which nothing could be decoded, as a server tells of windows that it could not decode."""
    warning = {"code": "WINDOW_MISSING", "message": error.message}
    spans = (span(chosen, piece.first + number, 1) for number in range(piece.count))
    return [
        {
            "start_seconds": round(start, 3),
            "end_seconds": round(end, 3),
            "predictions": [],
            "warnings": [warning],
        }
        for start, end in spans
    ]


def _best(scores: np.ndarray, labels: Mapping[int, str], top_k: int) -> list[dict[str, Any]]:
    best = [int(index) for index in np.argsort(-scores, kind="stable") if int(index) in labels][:top_k]
    return [
        {"label": labels[index], "class_index": index, "score": round(float(scores[index]), 6)}
        for index in best
    ]


def _sums(timings: list[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(sum(entry[name] for entry in timings), 1) for name in timings[0]}
