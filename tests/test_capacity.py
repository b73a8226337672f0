"""Promise: what the plan of capacity says is what the queue does, and no pod is more than needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import capacity

RANDOM = np.random.default_rng(3)
SHAPES = {
    "constant": np.full(1000, 0.1),
    "exponential": RANDOM.exponential(0.1, 20_000),
    "two kinds of clips": np.concatenate([np.full(900, 0.07), np.full(100, 0.9)]),
    "measured": RANDOM.lognormal(np.log(0.08), 0.3, 5_000),
}


def test_the_simulation_is_that_of_the_textbook() -> None:
    """With exponential times the mean stay is 1 / (service - arrivals); without load it is the time alone."""
    times, rate = SHAPES["exponential"], 7.0
    expected = 1.0 / (1.0 / times.mean() - rate)
    assert capacity.simulate(times, rate).mean() == pytest.approx(expected, rel=0.05)
    assert capacity.simulate(SHAPES["constant"], 1e-3).mean() == pytest.approx(0.1, rel=1e-3)


def test_the_simulation_is_the_queue_itself() -> None:
    """The fast form gives what a loop that keeps a clock gives."""
    times = SHAPES["two kinds of clips"]
    chance = np.random.default_rng(0)
    work, gaps = chance.choice(times, 500), chance.exponential(1 / 5.0, 500)
    come, free, stays = 0.0, 0.0, []
    for number, seconds in enumerate(work):
        come += gaps[number] if number else 0.0
        free = max(come, free) + seconds
        stays.append(free - come)
    assert capacity.simulate(times, 5.0, 500) == pytest.approx(np.array(stays), abs=1e-9)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("busy", [0.3, 0.6, 0.85])
def test_the_formula_is_borne_out(name: str, busy: float) -> None:
    """What the formula says of the slowest twentieth is within a third of the simulation, for every shape."""
    times = SHAPES[name]
    rate = busy / times.mean()
    found = float(np.quantile(capacity.simulate(times, rate), capacity.SHARE))
    assert capacity.answered_within(times, rate) == pytest.approx(found, rel=0.35)


@pytest.mark.parametrize("rate", [1.0, 30.0, 1_000.0, 10_000.0])
def test_the_least_number_of_pods(rate: float) -> None:
    """The plan keeps the time that is allowed, in the simulation too; a fiftieth of the pods fewer does not."""
    times = SHAPES["measured"]
    plan = capacity.plan(times, rate, 0.5)
    assert plan.formula_seconds <= 0.5
    assert plan.simulated_seconds <= 0.5
    assert plan.busy == pytest.approx(rate * times.mean() / plan.pods)
    assert plan.busy < 1
    fewer = plan.pods - max(1, plan.pods // 50)
    found = np.quantile(capacity.simulate(times, rate / fewer), capacity.SHARE) if fewer else np.inf
    assert found > 0.5 or capacity.answered_within(times, rate / fewer) > 0.5


def test_more_load_takes_more() -> None:
    """A higher rate, and less time, take no fewer pods; less time than one request takes is refused."""
    times = SHAPES["measured"]
    pods = [capacity.plan(times, rate, 0.5).pods for rate in (1, 10, 100, 1_000)]
    assert pods == sorted(pods)
    assert capacity.plan(times, 100, 0.3).pods >= capacity.plan(times, 100, 1.0).pods
    with pytest.raises(ValueError, match="not enough for one request alone"):
        capacity.plan(times, 1.0, 0.05)


def test_cost() -> None:
    """Two pods at 1.80 an hour and 10 clips a second: a million clips take 27.8 hours, and cost 100."""
    assert capacity.cost_per_million(2, 1.8, 10.0) == pytest.approx(100.0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a file of times to pods, cores, GPUs and costs."""
    file = tmp_path / "times.json"
    file.write_text(json.dumps({"milliseconds": (SHAPES["measured"] * 1e3).tolist()}))
    arguments = ["--times", str(file), "--rate", "10", "10000", "--peak", "2", "--cores", "4", "--gpus", "1"]
    assert capacity.main([*arguments, "--allowed", "1"]) == 0
    said = capsys.readouterr().out
    few, many = (capacity.plan(SHAPES["measured"], rate, 1.0).pods for rate in (20.0, 20_000.0))
    for number in (few, few * 4, many, many * 4):
        assert f" {number} " in said
    assert capacity.main([*arguments, "--allowed", "0.01"]) == 1
