"""Replies to the parts of a video -> the reply to the whole, made by `actionrec.reply` as a server's is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from actionrec import reply as server_reply
from actionrec.errors import ClipError, ClipWarning
from actionrec.problems import UNSURE, missing, problem
from actionrec.reply import Scores
from actionrec.sampling import Windows

from ..errors import Refused
from ..floats import from_json


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of windows that one request asks for."""

    first: int
    """Number of its first window among those of the whole."""
    count: int
    """How many windows it has."""
    data: bytes
    """A video file with the frames of these windows."""
    offset_seconds: float
    """Where that file's first frame stands in the whole."""
    last: bool
    """Whether no windows of the whole follow."""


PieceReply = tuple[Piece, dict[str, Any] | Refused]
"""A piece and the reply to it; an error where not one of its windows could be decoded."""


def span(chosen: Windows, first: int, count: int) -> tuple[float, float]:
    """From the start of a run of windows to its end, in seconds."""
    start = chosen.first_seconds + first * chosen.step_seconds
    return start, start + (count - 1) * chosen.step_seconds + chosen.seconds


def merged(replies: list[PieceReply], chosen: Windows, classes: int | None, top_k: int) -> dict[str, Any]:
    """One reply made of several.

    Args:
        replies: in the order of their windows.
        chosen: the windows of the whole.
        classes: how many labels the model has; None: as many as the largest index in the replies says.
        top_k: how many labels to name.

    Raises:
        Refused: no window of any piece could be decoded.
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
    windows: list[server_reply.Window] = []
    for piece, reply in replies:
        if isinstance(reply, Refused):
            windows += _gap(piece, chosen, reply)
        else:
            windows += _moved(piece, chosen, reply, classes)
    first = answered[0]
    whole = server_reply.Prediction(
        windows=tuple(windows),
        crops=first["clip"].get("views", {}).get("crops", 1),
        timeline=True,
        timings_ms=server_reply.Timings(**_sums([reply["timings_ms"] for reply in answered])),
        embedding_in_base64=isinstance(first.get("embedding"), str),
    )
    return whole.to_dict(labels, top_k, first["model"])


def _moved(
    piece: Piece, chosen: Windows, reply: Mapping[str, Any], classes: int
) -> Iterator[server_reply.Window]:
    """A piece's windows at their times in the whole.

    A reply has the number of frames and the shot boundaries of all its windows together: here the first one
    that has scores has them all.
    """
    clip = reply["clip"]
    frames = clip["source_frames"]
    boundaries = tuple(seconds + piece.offset_seconds for seconds in reply["cuts"])
    for number, entry in enumerate(reply["timeline"], start=piece.first):
        scores = _scores(entry["predictions"], classes)
        yield server_reply.Window(
            start_seconds=entry["start_seconds"] + piece.offset_seconds,
            end_seconds=entry["end_seconds"] + piece.offset_seconds,
            scores=scores,
            embedding=None if entry.get("embedding") is None else from_json(entry["embedding"]),
            source_frames=frames if scores is not None else 0,
            source_fps=clip["source_fps"],
            width=clip["width"],
            height=clip["height"],
            codec=clip.get("codec", ""),
            shot_boundaries=boundaries if scores is not None else (),
            warnings=tuple(
                _of_the_whole(warning, span(chosen, number, 1))
                for warning in entry["warnings"]
                if warning["code"] != UNSURE  # of scores, from which the whole's reply makes it again
            ),
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


def _gap(piece: Piece, chosen: Windows, error: Refused) -> Iterator[server_reply.Window]:
    """A piece of which no window could be decoded. The error tells why the first could not."""
    for number in range(piece.first, piece.first + piece.count):
        start, end = span(chosen, number, 1)
        if error.code == "CORRUPT_VIDEO":  # its words name no time
            why = missing(ClipError(error.code, error.status, error.message, error.hint))
        else:
            why = _no_frames(start, end)
        yield server_reply.Window(start, end, None, warnings=(why,))


def _of_the_whole(warning: Mapping[str, str], window: tuple[float, float]) -> ClipWarning:
    """A window's warning, with its times in the whole where the server's words name those in the part."""
    theirs = ClipWarning(warning["code"], warning["message"])
    ours = _no_frames(*window)
    same = theirs.code == ours.code and _without_numbers(theirs.message) == _without_numbers(ours.message)
    return ours if same else theirs


def _no_frames(start_seconds: float, end_seconds: float) -> ClipWarning:
    return missing(problem("no_frames", start_seconds=start_seconds, end_seconds=end_seconds))


def _without_numbers(message: str) -> str:
    return re.sub(r"[0-9][0-9.e+-]*", "", message)


def _sums(timings: list[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(entry[name] for entry in timings) for name in ("decode", "transform", "inference")}
