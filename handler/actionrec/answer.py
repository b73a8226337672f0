"""What the model gave for the views of a request -> windows and an explanation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .explanation import ExplainedView, Explanation, Shares
from .head import Floats, Head
from .reply import Scores, Window
from .sampling import crop_box
from .spec import ClipSpec
from .video.decoded import Decoded


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model gave for one view."""

    view: Decoded
    """The view, without frames."""
    scores: Scores
    """Probabilities, float32 [classes]."""
    embedding: Floats | None = None
    """float32 [features], where it is wanted."""
    maps: Sequence[Floats] = ()
    """The last feature maps, float32 [C, t, h, w], one a pathway, where an explanation is wanted."""


def window(decoded: Decoded, answers: Sequence[Answer]) -> Window:
    """A window's part of the prediction.

    Args:
        decoded: the window, without frames.
        answers: to its crops; none where it could not be decoded.
    """
    return Window(
        start_seconds=decoded.start_seconds,
        end_seconds=decoded.end_seconds,
        scores=_mean([answer.scores for answer in answers]),
        embedding=_mean([answer.embedding for answer in answers if answer.embedding is not None]),
        source_frames=decoded.source_frames,
        source_fps=decoded.source_fps,
        width=decoded.width,
        height=decoded.height,
        codec=decoded.codec,
        shot_boundaries=decoded.shot_boundaries,
        warnings=decoded.warnings,
    )


def explain(
    head: Head, spec: ClipSpec, crops: int, answers: Sequence[Answer], class_index: int | None
) -> Explanation:
    """Explain a label's logit in each view.

    Args:
        head: the model's, `Head.linear`.
        spec: what the model eats.
        crops: crops of each window.
        answers: to all views, with maps.
        class_index: the label; None: the one with the best mean score.
    """
    if class_index is None:
        class_index = int(np.mean([answer.scores for answer in answers], axis=0).argmax())
    bias = float(head.bias[class_index])
    explained = []
    for answer in answers:
        view, shares = answer.view, head.shares(answer.maps, class_index)
        explained.append(
            ExplainedView(
                window=view.window,
                crop=view.crop,
                start_seconds=view.start_seconds,
                end_seconds=view.end_seconds,
                box=crop_box(view.width, view.height, spec.short_side, spec.crop, crops, view.crop),
                logit=bias + sum(float(each.sum(dtype=np.float64)) for each in shares),
                pathways=tuple(Shares(_middles(view.frame_seconds, len(each)), each) for each in shares),
            )
        )
    return Explanation(class_index, bias, tuple(explained))


def _mean(rows: Sequence[Floats]) -> Floats | None:
    """The mean of rows; None where there is none."""
    return np.mean(rows, axis=0, dtype=np.float32) if rows else None


def _middles(frame_seconds: Sequence[float], steps: int) -> tuple[float, ...]:
    """The middle of each of a map's steps in time: the mean time of the frames that it stands for.

    Each pathway's frames are spread over the window as the fast one's are, and a map's steps over the frames.
    """
    edges = np.linspace(0, len(frame_seconds), steps + 1)
    times = np.asarray(frame_seconds)
    places = np.arange(len(times)) + 0.5
    return tuple(
        float(times[(start <= places) & (places < stop)].mean()) for start, stop in itertools.pairwise(edges)
    )
