"""Promise: a timeline says when the picture changes at once, and the edge of an action near it lies there."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import numpy.typing as npt
import pytest
from actionrec.limits import DEFAULT_LIMITS
from actionrec.sampling import Selection
from actionrec.segments import distinct, segments
from actionrec.spec import STEPS_PER_LEVEL, ClipSpec
from actionrec.video.decode import windows
from actionrec.video.shot_boundaries import shot_boundaries

from motion.clips import random_clip
from motion.scene import LABELS
from testing.media import encode
from testing.splice import FPS, STRIDE_SECONDS, spliced

SPEC = ClipSpec(short_side=64, crop=64)
TIMELINE = Selection(stride_seconds=STRIDE_SECONDS)
Frames = npt.NDArray[np.uint8]


actions = cache(partial(spliced, 100))
"""Size -> all eight motions one after the other: the file, the labels, the times."""


def places(frames: Frames) -> list[int]:
    return shot_boundaries(frames.astype(np.int16) * STEPS_PER_LEVEL)


def seen(video: bytes, selection: Selection = TIMELINE) -> list[float]:
    return distinct(
        s for window in windows(video, SPEC, selection, DEFAULT_LIMITS) for s in window.shot_boundaries
    )


def shot(seed: int, count: int, noise: float = 3.0) -> Frames:
    """A place of its own colours, uint8 [count, 48, 64, 3], with the noise of a camera."""
    rng = np.random.default_rng(seed)
    place = np.kron(rng.uniform(20, 235, (6, 8, 3)), np.ones((8, 8, 1)))
    return np.clip(place + rng.normal(0, noise, (count, 48, 64, 3)), 0, 255).astype(np.uint8)


def test_a_cut_is_where_it_is() -> None:
    """Two shots: one cut, between the last frame of the first and the first of the second."""
    assert places(np.concatenate([shot(0, 13), shot(1, 19)])) == [12]


def test_cuts_of_a_montage() -> None:
    """Three shots in one window have two cuts."""
    assert places(np.concatenate([shot(0, 8), shot(1, 12), shot(2, 12)])) == [7, 19]


def test_no_cut() -> None:
    """A still place, a flash, a fade, a pan, flicker, one frame, and a picture at each step have none."""
    first, second = shot(0, 32), shot(1, 32)
    flash = first.copy()
    flash[15] = 255
    share = np.linspace(0, 1, 32)[:, None, None, None]
    fade = (first * (1 - share) + second * share).astype(np.uint8)
    wide = np.concatenate([first[0], second[0], first[0][:, ::-1]], axis=1)
    pan = np.stack([wide[:, 4 * n : 4 * n + 64] for n in range(32)])
    flicker = np.where((np.arange(32) % 2)[:, None, None, None] == 1, first // 2, first)
    slides = np.concatenate([shot(seed, 1) for seed in range(32)])
    for frames in (first, flash, fade, pan, flicker, first[:1], slides):
        assert places(frames) == []


@pytest.mark.parametrize("label", LABELS)
def test_motion_is_no_cut(label: str) -> None:
    """Clips of one motion each, of any background: no cut."""
    for seed in range(4):
        assert seen(random_clip(1000 + seed, label, "libx264", seconds=3).data) == []


@pytest.mark.parametrize("size", [(320, 240), (240, 320)])
def test_cuts_of_a_spliced_video(size: tuple[int, int]) -> None:
    """The seven cuts of a spliced video are found, each at its frame or the next, and nothing else."""
    video, _, times = actions(size)
    assert seen(video) == pytest.approx(times[1:-1], abs=1.01 / FPS)


def test_cuts_by_timestamp() -> None:
    """Where the frame rate changes with the shot, the cut is at its time and not at its share of the frames."""
    frames = np.concatenate([shot(0, 60), shot(1, 30)])
    times = [*(np.arange(60) / 60), *(1 + np.arange(30) / 20)]
    assert seen(encode(frames, 60, times=times)) == pytest.approx([1.0], abs=0.06)


def test_few_frames_are_not_repeated_into_cuts() -> None:
    """Of five frames a second each stands for several of the model's; what moves in them is no cut."""
    clip = random_clip(1, "moving left", "libx264", fps=5, seconds=6)
    assert seen(clip.data) == []


def test_only_timelines_look_for_cuts() -> None:
    """A single window and views need none, and do not pay for them."""
    video, _, _ = actions((320, 240))
    for selection in (Selection(start_seconds=2.5), Selection(views=4)):
        assert not any(window.shot_boundaries for window in windows(video, SPEC, selection, DEFAULT_LIMITS))


def test_an_edge_goes_to_the_cut() -> None:
    """One action outshines the other, so that the scores' edge is late; with the cut it is right."""
    starts = np.arange(0, 8, 0.5)
    spans = [(start, start + 64 / 30) for start in starts]
    share = np.clip((4.0 - starts) / (64 / 30), 0, 1)
    loud = np.where(share > 0.2, 0.99, 0.01)  # a fifth of a window of the first action is enough for its label
    scores = np.stack([loud, 1 - loud], axis=1)
    without, cut = segments(spans, scores), segments(spans, scores, [1.0, 4.0, 7.5])
    assert [s.class_index for s in cut] == [s.class_index for s in without] == [0, 1]
    assert without[0].end_seconds > 4.3
    assert cut[0].end_seconds == cut[1].start_seconds == 4.0
    assert [s.score for s in cut] == [s.score for s in without]


def test_a_cut_far_away_moves_nothing() -> None:
    """An edge more than half a window from any cut stays, and so do the ends."""
    spans = [(start, start + 2.0) for start in np.arange(0, 8, 0.5)]
    scores = np.array([[1.0, 0.0] if start < 3 else [0.0, 1.0] for start, _ in spans])
    assert segments(spans, scores, [0.2, 1.5, 6.5, 9.4]) == segments(spans, scores)


def test_edges_keep_their_order() -> None:
    """A cut that two edges are near to takes one of them; no segment is turned round."""
    spans = [(start, start + 0.5) for start in np.arange(0, 7.5, 0.5)]
    scores = np.eye(3)[[0] * 6 + [1] + [2] * 8]
    found = segments(spans, scores, [3.2])
    assert [s.end_seconds for s in found] == [3.2, 3.5, 7.5]
    assert [s.start_seconds for s in found] == [0.0, 3.2, 3.5]
