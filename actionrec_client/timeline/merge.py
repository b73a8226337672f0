"""Replies to the parts of a video -> the reply to the whole, by what makes a server's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from actionrec.errors import ClipError, ClipWarning
from actionrec.problems import missing
from actionrec.reply import Prediction, Scores, Timings, Window
from actionrec.sampling import Windows

from ..errors import Refused


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
    answered = [reply for _, reply in replies if not isinstance(reply, Refused)]
    if not answered:
        raise next(reply for _, reply in replies if isinstance(reply, Refused))
    labels = {
        prediction["class_index"]: prediction["label"]
        for reply in answered
        for entry in reply["timeline"]
        for prediction in entry["predictions"]
    }
    classes = classes or max(labels) + 1
    windows: list[Window] = []
    for piece, reply in replies:
        windows += _gap(piece, chosen, reply) if isinstance(reply, Refused) else _moved(piece, reply, classes)
    first = answered[0]
    whole = Prediction(
        windows=tuple(windows),
        crops=first["clip"].get("views", {}).get("crops", 1),
        timeline=True,
        timings_ms=Timings(**_sums([reply["timings_ms"] for reply in answered])),
    )
    return whole.to_dict(labels, top_k, first["model"])


def _moved(piece: Piece, reply: Mapping[str, Any], classes: int) -> Iterator[Window]:
    """A part's windows at their times in the whole.

    A reply has the number of frames and the shot boundaries of all its windows together: here the first one
    that has scores has them all.
    """
    clip = reply["clip"]
    frames = clip["source_frames"]
    boundaries = tuple(seconds + piece.offset_seconds for seconds in reply["cuts"])
    for entry in reply["timeline"]:
        scores = _scores(entry["predictions"], classes)
        yield Window(
            start_seconds=entry["start_seconds"] + piece.offset_seconds,
            end_seconds=entry["end_seconds"] + piece.offset_seconds,
            scores=scores,
            source_frames=frames if scores is not None else 0,
            source_fps=clip["source_fps"],
            width=clip["width"],
            height=clip["height"],
            shot_boundaries=boundaries if scores is not None else (),
            warnings=tuple(ClipWarning(each["code"], each["message"]) for each in entry["warnings"]),
        )
        if scores is not None:
            frames, boundaries = 0, ()


def _scores(predictions: list[dict[str, Any]], classes: int) -> Scores | None:
    """Those that a reply names; 0 for the others."""
    if not predictions:
        return None
    scores = np.zeros(classes, dtype=np.float32)
    for prediction in predictions:
        scores[prediction["class_index"]] = prediction["score"]
    return scores


def _gap(piece: Piece, chosen: Windows, error: Refused) -> Iterator[Window]:
    """A part of which nothing could be decoded, as a server tells of windows that it could not decode."""
    why = missing(ClipError(error.code or "", error.status, error.message, error.hint))
    for number in range(piece.count):
        start, end = span(chosen, piece.first + number, 1)
        yield Window(start, end, None, warnings=(why,))


def _sums(timings: list[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(entry[name] for entry in timings) for name in ("decode", "transform", "inference")}
