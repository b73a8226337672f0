"""The loop that all training goes through: what is kept, how a run goes on, and what is refused."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.loop import DivergedError
from training.optimise import LEAST, cosine, groups, set_rate
from training.records import CSV_FILE, Records
from training.whole import save

from .helpers_training import PART, PARTS, Tiny, _Net, run


def assert_same(one: Tiny, other: Tiny) -> None:
    """Weights, statistics and the optimiser's memory are equal to the last bit, and so is the log."""
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    states = [course.optimiser.state_dict()["state"] for course in (one, other)]
    for mine, its in zip(states[0].values(), states[1].values(), strict=True):
        assert all(torch.equal(mine[key], its[key]) for key in mine)
    assert one.rows == other.rows


def killed(folder: Path, *arguments: str) -> None:
    """Run the tiny training in a process that kills itself with SIGKILL."""
    command = [sys.executable, "-m", "tests.helpers_training", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.long
def test_killed_twice_the_weights_are_the_same(tmp_path: Path) -> None:
    """A run that is killed with SIGKILL inside a part, and again while it writes, ends with the same weights,
    optimiser and log as one that was not.
    """
    killed(tmp_path / "killed", "--die", str(PART + 1))
    # Each part writes its log and itself; the log of the third part is the first write after going on.
    killed(tmp_path / "killed", "--die-writing", "3")
    assert_same(run(tmp_path / "whole"), run(tmp_path / "killed"))


def test_a_run_goes_on_wherever_it_stops(tmp_path: Path) -> None:
    """Stopped in its first part, at the end of one or inside one, a run goes on and ends the same."""

    class Stopped(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    expected = run(tmp_path / "whole")
    for step in (1, PART, 2 * PART + 2):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("tests.helpers_training.os.kill", stop)
            with pytest.raises(Stopped):
                run(tmp_path / str(step), die=step)
        assert_same(expected, run(tmp_path / str(step)))


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    """A run that is complete takes no step more when it is started again."""
    first = run(tmp_path)
    assert_same(first, run(tmp_path, die=0))


def test_log_has_a_row_for_each_part(tmp_path: Path) -> None:
    """The CSV log has each part once, in order, also after a run went on."""
    run(tmp_path)
    with (tmp_path / CSV_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["part"]) for row in rows] == list(range(1, PARTS + 1))
    assert all(float(row["loss"]) > 0 for row in rows)


def test_tensorboard_shows_what_the_log_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TensorBoard is installed each figure goes there under its part's number, and what a killed run
    wrote beyond what it kept is forgotten.
    """
    shown: list[tuple[object, ...]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            shown.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, number: int) -> None:
            shown.append((name, value, number))

        def flush(self) -> None:
            pass

        close = flush

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("training.records.importlib.util.find_spec", lambda _: module)
    records = Records(tmp_path)
    rows = [{"part": 3.0, "loss": 0.5}, {"part": 4.0, "loss": 0.25}]
    records.write(rows[:1])
    records.write(rows)
    records.close()
    assert shown == [(str(tmp_path), 3), ("loss", 0.5, 3), ("loss", 0.25, 4)]


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that diverges says at which step, and keeps what it had before."""

    def loss(_: Tiny, logits: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG001
        return logits.sum() * torch.nan

    monkeypatch.setattr(Tiny, "loss", loss)
    with pytest.raises(DivergedError, match="step 1 is nan"):
        run(tmp_path)
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 0


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be written completely is not written at all."""
    path = tmp_path / "state.pt"
    save(path, {"step": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.whole.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, {"step": 2})
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_rate_warms_up_and_falls() -> None:
    """The learning rate rises in a line to its peak, then falls along a cosine to its least share."""
    rates = [cosine(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0, abs=0.03)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[50] == pytest.approx(0.5)
    assert rates[-1] == LEAST


def test_only_weights_decay() -> None:
    """Weights decay, biases and BatchNorm do not, what is frozen is not there, and shares of the rate hold."""
    net = _Net()
    net.last.requires_grad_(False)
    found = groups(net.parameters(), 0.3, rate_share=0.1)
    assert [(group["weight_decay"], len(group["params"])) for group in found] == [(0.3, 1), (0.0, 3)]
    optimiser = torch.optim.AdamW(found)
    set_rate(optimiser, 2.0)
    assert {group["lr"] for group in optimiser.param_groups} == {0.2}
