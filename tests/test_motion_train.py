"""`make train-motion`: the bundled model's own training goes through the loop of all training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from motion.model import build_motion
from motion.train import STAGES, WARM_UP, Stage, _place, _rate, train


@pytest.mark.long
def test_training_goes_on_and_gives_weights(tmp_path: Path) -> None:
    """A run of two stages that stopped after the first goes on with the second, and writes weights that fit the
    model, float16.
    """
    stages = (Stage(32, 2, 1, 0.0, 1e-3), Stage(64, 1, 2, 0.0))
    train(tmp_path / "first.pth", tmp_path / "work", stages=stages[:1])
    train(tmp_path / "out.pth", tmp_path / "work", stages=stages)
    kept = torch.load(tmp_path / "work" / "checkpoint.pth", weights_only=True)
    assert kept["step"] == 3
    assert kept["course"]["progress"]["fresh_clips"] == 4
    state = torch.load(tmp_path / "out.pth", weights_only=True)
    build_motion().load_state_dict(state)
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float16}
    first = torch.load(tmp_path / "first.pth", weights_only=True)
    assert any(not torch.equal(value, first[name]) for name, value in state.items())


def test_the_rate_falls_as_the_stages_say() -> None:
    """Each peak is reached after a warm-up, and falls along half a cosine until the next stage that has one."""
    falls, begun = [(2e-3, 3650), (1e-3, 1850), (1e-3, 2000), (8e-4, 1300)], 0
    for peak, steps in falls:
        assert _rate(begun, STAGES) == pytest.approx(peak / WARM_UP, rel=1e-3)
        middle = begun + steps // 2
        assert _rate(middle, STAGES) == pytest.approx(
            peak * 0.5 * (1 + math.cos(math.pi * (steps // 2) / steps))
        )
        assert _rate(begun + steps - 1, STAGES) == pytest.approx(peak / 200)
        begun += steps
    with pytest.raises(ValueError, match="beyond the last stage"):
        _rate(begun, STAGES)


def test_a_step_has_its_stage() -> None:
    """A stage has as many steps as it says; the next one begins after them."""
    assert _place(0, STAGES) == (0, 1800)
    assert _place(1799, STAGES) == (0, 1800)
    assert _place(1800, STAGES) == (1, 2900)
