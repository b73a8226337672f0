"""Promise: of what is compiled for a GPU, an archive serves what was measured the fastest, and says so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from actionrec.manifest import Artifact, Manifest
from actionrec.model.runtime import Runtime
from actionrec.spec import ClipSpec
from rich.console import Console

from export import artifacts, build, parity, race
from export.errors import ExportError, ParityError


class Racer:
    """A runtime whose batches take known times, by a clock that it moves."""

    def __init__(self, name: str, clock: list[float], seconds: list[float], turns: list[str]) -> None:
        self.name, self.clock, self.turns = name, clock, turns
        self.seconds = seconds
        self.warm = False
        self.count = 0

    def transform(self, batch: Sequence[np.ndarray]) -> int:
        return len(batch)

    def warm_up(self) -> None:
        self.warm = True

    def scores(self, prepared: int) -> None:
        assert (prepared, self.warm) == (race.BATCH, True)
        self.clock[0] += self.seconds[self.count % len(self.seconds)]
        self.count += 1
        self.turns.append(self.name)


def racers(**seconds: list[float]) -> tuple[dict[str, Runtime], list[float], list[str]]:
    clock, turns = [0.0], list[str]()
    made = {name: Racer(name, clock, each, turns) for name, each in seconds.items()}
    return cast(dict[str, Runtime], made), clock, turns


CLIPS = torch.zeros(3, 2, 4, 4, 3, dtype=torch.int16)


def test_runtimes_take_turns() -> None:
    """Each is timed on the same warm batch, one after the other, and a few slow turns decide nothing."""
    made, clock, turns = racers(aoti=[0.009], tensorrt=[0.007, 0.007, 0.5])
    assert race.batch_seconds([*made.values()], CLIPS, lambda: clock[0]) == pytest.approx([0.009, 0.007])
    assert turns == ["aoti", "tensorrt"] * race.ROUNDS


@pytest.mark.parametrize(
    ("seconds", "order"),
    [
        ({"aoti": 9.0, "tensorrt": 7.0}, ["tensorrt", "aoti"]),
        ({"aoti": 7.0, "tensorrt": 9.0}, ["aoti", "tensorrt"]),
        ({"aoti": 7.0, "tensorrt": 7.0}, ["aoti", "tensorrt"]),
    ],
)
def test_ranking(seconds: dict[str, float], order: list[str]) -> None:
    """The faster one is the first; TensorRT only where it is truly faster."""
    assert race.ranking(seconds) == order


def test_the_faster_one_is_served() -> None:
    """The archive has the measured ones first, with their times, and the others behind them as they were."""
    made, clock, _ = racers(aoti=[0.009], tensorrt=[0.007])
    every = [Artifact(name, "fp16", "cuda", name) for name in ("aoti", "tensorrt", "torchscript")]
    said: list[str] = []
    first, second, third = race.fastest_first(every, made, CLIPS, said.append, lambda: clock[0])
    assert (first.runtime, first.batch_ms) == ("tensorrt", 7.0)
    assert (second.runtime, second.batch_ms) == ("aoti", 9.0)
    assert third == every[2]
    assert said == ["tensorrt takes 7.00 ms, aoti takes 9.00 ms for a batch of 8: tensorrt is served"]


def test_one_alone_is_not_measured() -> None:
    """Where there is nothing to choose, nothing is measured and the order stays."""
    made, _, turns = racers(aoti=[0.009])
    every = [Artifact(name, "fp16", "cuda", name) for name in ("aoti", "torchscript")]
    assert race.fastest_first(every, made, CLIPS, pytest.fail) == tuple(every)
    assert turns == []


MANIFEST = Manifest("small", "1.0", ClipSpec(short_side=32, crop=32), "", (), ("a", "b", "c"))
NAMES = "aoti", "tensorrt", "torchscript"


class Build:
    """The steps of a build for a GPU, played: what is exported, loaded and compared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: list[float]) -> None:
        made, self.clock, self.turns = racers(torchscript=[0.02], **seconds)
        self.wrong: set[str] = set()
        timed = partial(race.fastest_first, clock=lambda: self.clock[0])
        monkeypatch.setattr(race, "fastest_first", timed)
        monkeypatch.setattr(build, "sample_clips", lambda *_: CLIPS)
        monkeypatch.setattr(
            artifacts, "export", lambda _, __, target, *___: Artifact(target.runtime, "fp16", "cuda", "file")
        )
        monkeypatch.setattr(build, "_loaded", lambda _, manifest, __: made[manifest.artifacts[0].runtime])
        monkeypatch.setattr(parity, "check", lambda _, runtime, *__: self.compare(runtime.name))

    def compare(self, name: str) -> dict[str, float]:
        if name in self.wrong:
            raise ParityError("scores differ")
        return {"clips": 16}

    def run(self, folder: Path, *, strict: bool = False) -> tuple[list[str], str]:
        """Runtimes of the archive in their order, and its notice."""
        targets = [artifacts.Target(name, "fp16", "cuda") for name in NAMES]
        net, console = torch.nn.Identity(), Console(quiet=True)
        made, notice = build.exported(net, MANIFEST, targets, folder, console, None, strict=strict)
        assert all(artifact.parity for artifact in made)
        return [artifact.runtime for artifact in made], notice


def test_a_build_that_chooses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RUNTIME=auto serves TensorRT where it is faster, and only after its comparison with the eager model."""
    faster = Build(monkeypatch, aoti=[0.009], tensorrt=[0.007])
    assert faster.run(tmp_path) == (["tensorrt", "aoti", "torchscript"], "")
    assert set(faster.turns) == {"aoti", "tensorrt"}
    faster.wrong = {"tensorrt"}
    faster.turns.clear()
    runtimes, notice = faster.run(tmp_path)
    assert runtimes == ["aoti", "torchscript"]
    assert "The archive has no tensorrt artifact: scores differ" in notice
    assert faster.turns == []


def test_a_slower_one_is_not_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where TensorRT is slower, it stands behind."""
    slower = Build(monkeypatch, aoti=[0.009], tensorrt=[0.011])
    assert slower.run(tmp_path)[0] == ["aoti", "tensorrt", "torchscript"]


def test_what_is_asked_for_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A runtime that has a name in the order is not raced against another."""
    asked = Build(monkeypatch, aoti=[0.009], tensorrt=[0.007])
    assert asked.run(tmp_path, strict=True)[0] == ["aoti", "tensorrt", "torchscript"]
    assert asked.turns == []
    asked.wrong = {"tensorrt"}
    with pytest.raises(ExportError, match="scores differ"):
        asked.run(tmp_path, strict=True)
