"""Promise: each stage of a GPU host's checks goes through all of its rows, or says why not; on the CPU here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.plan import EAGER, MOTION, RUNTIMES, Places
from benchmarks.gpu.record import DONE, FAILED, SKIPPED, TO_DO, read
from export import artifacts
from tests.conftest import PROJECT
from tests.fixtures_gpu_check import SECONDS, SMALL, places_of

pytest_plugins = ("tests.fixtures_gpu_check",)


# Stages


@pytest.mark.parametrize("name", ["correct", "figures", "served"])
def test_no_gpu(name: str, places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    """A stage that needs CUDA and has none says so, and fails."""
    assert main([name, *places_of(places)]) == 1
    said = capfd.readouterr().out
    assert "sees no CUDA device" in said
    assert "--rehearse" in said


def test_stage_that_has_no_time(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    """A stage whose time is over at once names every row that it did not reach."""
    assert main(["correct", *SMALL[:-1], "0", *places_of(places)]) == 1
    rows = read(places.out / "correct.json")["rows"]
    assert rows[f"parity {MOTION} {artifacts.PORTABLE} fp32"] == {"state": TO_DO}
    assert f"to do   parity {MOTION} {artifacts.PORTABLE} fp32" in capfd.readouterr().out


@pytest.mark.slow
def test_wrong_scores_stop_everything(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    """Where a form's scores are not the eager model's, `correct` fails, and no figure is measured after it."""
    arguments = [*SMALL, "--precisions", "fp32", *places_of(places)]
    name = f"parity {MOTION} {artifacts.PORTABLE} fp32"
    main(["correct", *arguments])
    assert read(places.out / "correct.json")["rows"][name]["state"] == DONE
    (weights,) = places.work.glob(f"*/{MOTION}.pth")
    state = torch.load(weights, weights_only=True)
    state["blocks.6.proj.weight"] *= -1
    torch.save(state, weights)
    assert main(["correct", "--fresh", *arguments]) == 1
    row = read(places.out / "correct.json")["rows"][name]
    assert row["state"] == FAILED
    assert "the exported model is not the eager one" in row["reason"]
    capfd.readouterr()
    assert main(["figures", *arguments]) == 1
    assert "failed rows" in capfd.readouterr().out


@pytest.mark.slow
def test_stage_that_is_stopped(places: Places) -> None:
    """A stage that is told to end leaves its file with what it has, and no process."""
    command = [sys.executable, "-m", "benchmarks.gpu", "figures", *SMALL, *places_of(places)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    path = places.out / "figures.json"
    while f"load {MOTION} {artifacts.PORTABLE} fp32" not in read(path).get("rows", {}):
        time.sleep(0.1)
        assert process.poll() is None
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    psutil.wait_procs(below, 30)
    assert not any(each.is_running() for each in below)
    assert read(path)["passed"] is False
    assert FAILED not in {row["state"] for row in read(path)["rows"].values()}


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("name", ["correct", "figures", "served"])
def test_rehearsal(name: str, places: Places, tmp_path: Path) -> None:
    """Every stage goes through all of its rows on a CPU: done, or left out with a reason."""
    forms = {
        "correct": ["--precisions", "fp32", "fp16", "--runtimes", *RUNTIMES],
        "figures": ["--precisions", "fp32", "fp16", "--runtimes", artifacts.PORTABLE, artifacts.AOTI],
        "served": ["--runtimes", artifacts.PORTABLE],
    }
    options = ["--batches", "1", "2", "--clients", "1", "2", *forms[name]]
    environment = {**os.environ, "LIMIT": SECONDS, "OUT": str(places.out)}
    command = [str(PROJECT / "scripts" / "gpu-check"), name, *SMALL[:3], "--work", str(places.work), *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=3300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    document = json.loads((places.out / f"{name}.json").read_text(encoding="utf-8"))
    assert document["passed"] is True
    assert document["goals"]
    assert {row["state"] for row in document["rows"].values()} <= {DONE, SKIPPED}
    assert all(row["reason"] for row in document["rows"].values() if row["state"] == SKIPPED)
    expected = {
        "correct": [f"parity {MOTION} {runtime} fp32" for runtime in (artifacts.PORTABLE, artifacts.AOTI)],
        "figures": [
            f"time {MOTION} {runtime} fp32 batch 2" for runtime in (artifacts.PORTABLE, artifacts.AOTI, EAGER)
        ],
        "served": ["served 340x256 2 clients", "bottleneck 340x256", "bottleneck 640x360"],
    }
    for row in expected[name]:
        assert document["rows"][row]["state"] == DONE, row
    if name != "served":
        assert any(
            row.endswith(" fp16") for row in document["rows"] if document["rows"][row]["state"] == SKIPPED
        )
    assert (places.out / f"{name}.log").read_text(encoding="utf-8").count("done ") > 5


def test_unknown_stage() -> None:
    """The script says which stages there are."""
    done = subprocess.run(
        [str(PROJECT / "scripts" / "gpu-check"), "fast"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "correct, figures or served" in done.stderr
