"""Promise: which frames are sampled is decided in one place, exactly as the published recipe decides it."""

from fractions import Fraction

import pytest
import torch
from actionrec.sampling import Selection, crop_corners, spread, uniform_indices, window_ticks
from actionrec.spec import ClipSpec
from hypothesis import assume, given
from hypothesis import strategies as st
from pytorchvideo.data.clip_sampling import ConstantClipsPerVideoSampler, UniformClipSampler


@given(count=st.integers(1, 200_000), samples=st.sampled_from([1, 2, 8, 16, 31, 32, 64]))
def test_indices_equal_torch_linspace(count: int, samples: int) -> None:
    """Every index is the one that torch.linspace(...).long() gives, float32 rounding included."""
    expected = torch.linspace(0, count - 1, samples).long().tolist()
    assert uniform_indices(count, samples).tolist() == expected


@given(count=st.integers(1, 10_000), samples=st.integers(1, 64))
def test_indices_stay_inside(count: int, samples: int) -> None:
    """No index reaches the count (the tutorial's IndexError), and order is kept."""
    indices = uniform_indices(count, samples)
    assert indices[0] == 0
    assert indices[-1] <= count - 1
    assert (indices[1:] >= indices[:-1]).all()


@pytest.mark.parametrize(("count", "samples"), [(0, 32), (5, 0), (-1, 1)])
def test_indices_refuse_nothing(count: int, samples: int) -> None:
    """Sampling nothing, or from nothing, is an error that names both numbers."""
    with pytest.raises(ValueError, match=f"{count} and {samples}"):
        uniform_indices(count, samples)


@pytest.mark.parametrize(
    "time_base", [Fraction(1, 30), Fraction(1, 15360), Fraction(1, 90_000), Fraction(1, 600)]
)
def test_window_of_64_frames_at_30_fps(time_base: Fraction) -> None:
    """The recipe's window holds frames 0..63 of a 30 fps clip, not 65, in every time base that has them all."""
    first, stop = window_ticks(0.0, ClipSpec().window_seconds, time_base, origin=0)
    stamps = [round(Fraction(k, 30) / time_base) for k in range(80)]
    assert [k for k, pts in enumerate(stamps) if first <= pts < stop] == list(range(64))


def test_windows_share_no_frame() -> None:
    """Neighbouring windows are half open: a frame on the border belongs to the later one only."""
    first, second = (window_ticks(k * 64 / 30, (k + 1) * 64 / 30, Fraction(1, 30), 7) for k in (0, 1))
    assert first == (7, 71)
    assert second == (71, 135)


CLIP_SECONDS = st.floats(0.1, 5000)
WINDOW_SECONDS = st.sampled_from([64 / 30, 16 / 30, 128 / 30, 1.0])


@given(clip=CLIP_SECONDS, window=WINDOW_SECONDS, views=st.integers(2, 64))
def test_views_are_those_of_the_published_evaluation(clip: float, window: float, views: int) -> None:
    """Each view starts where pytorchvideo's ConstantClipsPerVideoSampler puts it; a short clip has one."""
    found = list(spread(Selection(views=views), window, clip))
    if clip <= window:
        assert found == [(0.0, window)]
        return
    sampler = ConstantClipsPerVideoSampler(window, views)
    expected = [tuple(map(float, sampler(0.0, clip, {})[:2])) for _ in range(views)]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-6)


@given(clip=CLIP_SECONDS, window=WINDOW_SECONDS, share=st.floats(0.05, 1))
def test_a_timeline_is_a_uniform_clip_sampler(clip: float, window: float, share: float) -> None:
    """Its windows are those of pytorchvideo's UniformClipSampler, up to the last that ends in the clip."""
    stride = window * share
    # On the very edge the containers' millisecond decides, see below.
    assume(clip <= window or min((clip - window) % stride, stride - (clip - window) % stride) > 2e-3)
    found = [start for start, _ in spread(Selection(stride_seconds=stride), window, clip)]
    sampler, end, last = UniformClipSampler(Fraction(window), Fraction(stride)), 0.0, False
    expected: list[float] = []
    while not last and len(expected) < 400:
        start, end, _, _, last = sampler(end, clip, {})
        expected.append(float(start))
    assert found[:400] == pytest.approx(expected, abs=1e-6)
    assert len(found) == len(expected) or len(expected) == 400


def test_a_timeline_forgives_a_container_its_milliseconds() -> None:
    """4.266 s in a file that counts milliseconds are two windows of 64/30 s, as 4.2667 s are."""
    for clip in (4.266, 4.2667):
        assert spread(Selection(stride_seconds=64 / 30), 64 / 30, clip).count == 2
    assert spread(Selection(stride_seconds=64 / 30), 64 / 30, 4.26).count == 1


@given(
    start=st.floats(0, 100),
    length=st.floats(0.5, 100),
    clip=st.floats(0, 250),
    stride=st.floats(0.1, 200),
    views=st.integers(1, 64),
    timeline=st.booleans(),
)
def test_windows_stay_in_the_range(
    start: float, length: float, clip: float, stride: float, views: int, timeline: bool
) -> None:
    """Whatever is asked: at least one window, in order, none outside what was asked for and what there is."""
    window = 64 / 30
    end = start + length
    asked = Selection(start, end, stride_seconds=stride) if timeline else Selection(start, end, views=views)
    found = list(spread(asked, window, clip))
    assert found
    assert found == sorted(found)
    assert found[0][0] >= start
    assert found[-1][1] <= end + 2e-3
    if len(found) > 1:
        assert found[-1][1] <= clip + 2e-3
        assert all(b - a == pytest.approx(window) for a, b in found)


def test_one_view_of_a_range() -> None:
    """One window of a longer range is its middle, of a shorter one all of it, and without an end the first."""
    assert list(spread(Selection(1.0, 5.0), 2.0, 99.0)) == [(2.0, 4.0)]
    assert list(spread(Selection(1.0, 5.0), 2.0, 4.0)) == [(1.5, 3.5)]
    assert list(spread(Selection(1.0, 2.5), 2.0)) == [(1.0, 2.5)]
    assert list(spread(Selection(1.0), 2.0)) == [(1.0, 3.0)]
    assert not Selection(1.0).needs_length(2.0)
    assert not Selection(1.0, 2.5).needs_length(2.0)
    assert Selection(views=2).needs_length(2.0)


def test_crop_corners() -> None:
    """Along the longer side from edge to edge; the centre crop is torchvision's, to its rounding."""
    assert crop_corners(256, 455, 256, 3) == [(0, 0), (0, 100), (0, 199)]
    assert crop_corners(455, 256, 256, 3) == [(0, 0), (100, 0), (199, 0)]
    assert crop_corners(256, 256, 256, 3) == [(0, 0)] * 3
    assert crop_corners(256, 341, 224, 3) == [(16, 0), (16, 59), (16, 117)]
    assert crop_corners(256, 341, 224, 1) == [(16, 58)]
