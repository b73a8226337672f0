"""Promise: which frames are sampled is decided in one place, exactly as the published recipe decides it."""

from fractions import Fraction

import pytest
import torch
from actionrec.sampling import uniform_indices, window_ticks
from actionrec.spec import ClipSpec
from hypothesis import given
from hypothesis import strategies as st


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


def test_spec_survives_the_archive() -> None:
    """A ClipSpec written to YAML or JSON comes back equal."""
    spec = ClipSpec(crop=224, short_side=224, sampling_rate=4)
    assert ClipSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("field", "value"),
    [("crop", 300), ("num_frames", 30), ("fps", 0), ("alpha", -4), ("mean", (0.4, 0.4)), ("std", (0, 1, 1))],
)
def test_spec_refuses_nonsense(field: str, value: object) -> None:
    """A value that no model can eat is refused with the field's name and the value."""
    with pytest.raises(ValueError, match=field):
        ClipSpec(**{field: value})  # type: ignore[arg-type]


def test_spec_refuses_other_fields() -> None:
    """A configuration with a field too many or too few is refused by name."""
    values = ClipSpec().to_dict()
    with pytest.raises(ValueError, match="colour"):
        ClipSpec.from_dict({**values, "colour": 1})
    del values["alpha"]
    with pytest.raises(ValueError, match="alpha"):
        ClipSpec.from_dict(values)
