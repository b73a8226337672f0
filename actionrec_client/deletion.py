"""The deletion test of an explanation: what becomes of the score where the places it names cannot be seen?

The strongest tenth of all places and times is made grey, and beside it a random tenth. Where the explanation is
right, the first costs far more of the score than the second.

    video -> the model's own frames, uint8 [T, H, W, 3] -> a tenth of the cells grey -> a lossless clip -> score
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from operator import itemgetter
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec
from actionrec.video.decode import windows

from . import video
from .api import ActionClient
from .description import Description
from .errors import BadReply, Refused, ServerError
from .explanation import ExplainedView, Explanation
from .floats import Floats
from .video import Frames

SHARE = 0.1
"""Of all cells, how many are made grey."""
DRAWS = 5
"""Random tenths, whose scores are averaged."""

Pixels = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.bool_]
"""bool [t, h, w]: which are made grey."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion test found. Scores are means over the views."""

    label: str
    score: float
    """Of the frames as they are, 0 to 1."""
    without_strongest: float
    """Where the strongest tenth is grey."""
    without_random: float
    """Where a random tenth is grey: the mean over the draws."""
    draws: int

    @property
    def drop(self) -> float:
        """By how much the score falls without the strongest tenth."""
        return self.score - self.without_strongest

    @property
    def random_drop(self) -> float:
        """By how much it falls without a random tenth."""
        return self.score - self.without_random

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        drops = {"drop": round(self.drop, 6), "random_drop": round(self.random_drop, 6)}
        return {**asdict(self), "share": SHARE, **drops}


def delete(
    client: ActionClient,
    clip: video.Video,
    explanation: Explanation,
    selection: Selection,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    in_flight: int = 4,
) -> Deletion:
    """Blank places of a clip and ask for its score again.

    The clip is decoded here by the code that decodes it on the server. So the cells are blanked in the very
    frames that the model sees, and nothing but them changes.

    Args:
        client: of the server; its management address says what the recipe is.
        clip: what was explained.
        explanation: of it.
        selection: the windows and crops that were explained.
        draws: random tenths, at least 1.
        seed: of the draws.
        in_flight: requests at a time.

    Raises:
        ServerError: there is no answer, or the clip cannot be decoded here.
    """
    described = Description.from_dict(client.describe())
    frames = _frames(clip, described.spec, selection)
    for view in explanation.views:
        if (view.window, view.crop) not in frames:
            message = f"Window {view.window}, crop {view.crop} of the explanation is not in the video."
            raise BadReply("BAD_REPLY", 200, message, "Is it another video?")
    top_k = min(described.labels or 1, DEFAULT_LIMITS.top_k)
    sent = _clips(explanation, frames, described.spec, draws, seed)
    scores: dict[int, list[float]] = {}
    for (number, _), answer in client.classify_many(sent, in_flight, video_of=itemgetter(1), top_k=top_k):
        if isinstance(answer, ServerError):
            raise answer
        found = sum(p.score for p in answer.predictions if p.class_index == explanation.class_index)
        scores.setdefault(number, []).append(found)
    means = [fmean(scores[number]) for number in range(2 + draws)]
    return Deletion(explanation.label, means[0], means[1], fmean(means[2:]), draws)


def _clips(
    explanation: Explanation, frames: Mapping[tuple[int, int], Pixels], spec: ClipSpec, draws: int, seed: int
) -> Iterator[tuple[int, Frames]]:
    """What is sent of each view, with the number of its deletion: 0 is none, 1 the strongest tenth."""
    rng = np.random.default_rng(seed)
    grey = round(255 * fmean(spec.mean))
    fps = spec.num_frames / spec.window_seconds
    for view in explanation.views:
        for number, cells in enumerate(_deletions(view, rng, draws)):
            yield number, Frames(blanked(frames[view.window, view.crop], cells, grey), fps)


def strongest(cells: Floats, share: float = SHARE) -> Cells:
    """The cells with the largest shares.

    Args:
        cells: float32 [t, h, w].
        share: how many of all, at least one.
    """
    count = max(1, round(share * cells.size))
    chosen = np.zeros(cells.size, bool)
    chosen[np.argsort(-cells, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(cells.shape)


def blanked(frames: Pixels, cells: Cells, grey: int) -> Pixels:
    """Frames with some places grey.

    Args:
        frames: uint8 [T, H, W, 3], those of one view.
        cells: bool [t, h, w]; the frames and the picture are divided among them evenly.
        grey: the level.
    """
    sizes = zip(frames.shape[:3], cells.shape, strict=True)
    steps, rows, columns = (np.arange(pixels) * count // pixels for pixels, count in sizes)
    mask = cells[np.ix_(steps, rows, columns)]
    return np.where(mask[..., None], np.uint8(grey), frames)


def _deletions(view: ExplainedView, rng: np.random.Generator, draws: int) -> Iterator[Cells]:
    """Nothing, the strongest tenth, and random ones."""
    cells = view.cells()
    yield np.zeros(cells.shape, bool)
    most = strongest(cells)
    yield most
    for _ in range(draws):
        yield rng.permutation(most.ravel()).reshape(cells.shape)


def _frames(clip: video.Video, spec: ClipSpec, selection: Selection) -> dict[tuple[int, int], Pixels]:
    """The frames of each view, uint8 [T, H, W, 3], by the numbers of its window and crop."""
    try:
        decoded = windows(video.read(clip), spec, selection, DEFAULT_LIMITS)
        return {(one.window, one.crop): one.rounded() for one in decoded if not one.missing}
    except ClipError as error:
        raise Refused(error.code, error.status, error.message, error.hint) from error
