"""Promise: the figures of a GPU host are of what they say, and its goals are met by nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from actionrec.model.runtime import DTYPES

from benchmarks import batching, claims, measure
from benchmarks.gpu import eager, form_process, goals, peaks, roofline
from benchmarks.gpu.forms import Form
from benchmarks.gpu.plan import EAGER, MOTION, R50, Plan
from benchmarks.gpu.record import DONE
from export import artifacts, zoo
from export.errors import ExportError
from motion.model import WEIGHTS

pytest_plugins = ("tests.fixtures_gpu_check",)


# Figures


def test_roofline_of_the_network() -> None:
    """The layers' arithmetic and traffic are those of the published network: 65.7 GMAC, 736 MB in fp16."""
    model = zoo.get(R50)
    layers = roofline.layers(model.build(model.spec, 400), model.spec)
    assert sum(layer.flop for layer in layers) == pytest.approx(2 * 65.71e9, rel=0.01)
    assert sum(layer.elements for layer in layers) * 2 == pytest.approx(736e6, rel=0.1)


def test_floor_of_a_layer() -> None:
    """A layer takes the longer of its arithmetic and its traffic; weights are read once for a batch."""
    layer = roofline.Layer(flop=100.0, elements=10.0, weights=50.0)
    assert roofline.seconds([layer], 2, 10.0, 1e9, 2) == pytest.approx(20.0)
    assert roofline.seconds([layer], 2, 1e9, 7.0, 2) == pytest.approx((10 * 2 + 50) * 2 / 7)
    assert roofline.seconds([layer, layer], 2, 10.0, 1e9, 2) == pytest.approx(40.0)


def test_peaks() -> None:
    """A product's and a copy's rate are measured; a precision that the device lacks is refused."""
    assert peaks.product("cpu", "fp32", 64)["TFLOP/s"] > 0
    assert peaks.copy("cpu", 2**20)["GB/s"] > 0
    assert "no tf32" in peaks.product("cpu", "tf32", 64)["cannot"]


def test_batches_larger_than_a_worker_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch above the runtime's largest is run as a worker would: in parts, all of which count."""
    seen: list[int] = []

    class Runtime(eager.EagerRuntime):
        max_batch = 4
        in_flight = 2

        def __init__(self) -> None:
            self.under_way = 0

        def transform(self, frames: Any) -> list[torch.Tensor]:  # noqa: ANN401
            seen.append(len(frames))
            assert all(clip.any() for clip in frames), "zeros are computed faster than footage"
            return []

        def compute(self, prepared: list[torch.Tensor]) -> Any:  # noqa: ANN401, ARG002
            self.under_way += 1
            assert self.under_way <= self.in_flight
            return self

        def scores(self) -> np.ndarray[Any, np.dtype[np.float32]]:
            self.under_way -= 1
            return np.zeros((1, 1), np.float32)

    process = form_process.Process(Form(MOTION, EAGER, "fp32", "cpu"), tmp_path)
    monkeypatch.setattr(form_process.Process, "_runtime", Runtime())
    answer = process.time(10, 0.0)
    assert answer["parts"] == 3
    # One that warms up; two runs in which each part is waited for, and two in which the next one is started.
    assert seen == [4] + [4, 4, 2] * 4
    assert {"model", "copy", "whole"} <= answer.keys()


@pytest.mark.parametrize("form", [Form(MOTION, EAGER, "fp16", "cpu"), Form(R50, artifacts.AOTI, "tf32", "cpu")])
def test_forms_that_a_host_cannot_have(form: Form, tmp_path: Path) -> None:
    """A form that needs what the device lacks is left out, with the reason."""
    assert form.precision in form_process.Process(form, tmp_path).export()["cannot"]


def test_runtime_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime whose package is not installed is left out; another error of an export is an error."""

    def export(*_: object) -> None:
        try:
            raise missing
        except Exception as error:
            raise ExportError("RUNTIME=torchscript cannot be had") from error

    monkeypatch.setattr(artifacts, "export", export)
    process = form_process.Process(Form(MOTION, artifacts.PORTABLE, "fp32", "cpu"), tmp_path)
    shutil.copyfile(WEIGHTS, tmp_path / f"{MOTION}.pth")
    missing: Exception = ImportError("no torch_tensorrt")
    assert process.export() == {"cannot": "RUNTIME=torchscript cannot be had"}
    missing = RuntimeError("a bug")
    with pytest.raises(ExportError):
        process.export()


def test_every_runtime_and_precision_is_in_the_plan() -> None:
    """What `export` can write and `Runtime` can load is checked, without a list to keep."""
    assert Plan().runtimes == tuple(artifacts.EXPORTERS)
    assert set(Plan().precisions) == set(DTYPES)
    assert Plan().batches == (1, 2, 4, 8, 16, 32, 64)


def test_claims_that_need_a_gpu() -> None:
    """A claim about a GPU's memory is left out on a CPU."""
    tutorial = claims.Tutorial("cpu", 32)
    assert claims._answer(tutorial, "8 clips take roughly 4 GB") == {"cannot": claims.NEEDS_GPU}


# Goals

_FAST = {"state": DONE, "runtime": "aoti", "batch": 16, "clips/s": 1200.0, "of the roofline": 0.5}


@pytest.mark.parametrize(
    ("change", "met"),
    [
        ({}, [True, True, True, True]),
        ({"clips/s": 900.0, "of the roofline": 0.4}, [False, False, True, True]),
        ({"clips/s": 1000.0}, [True, True, False, True]),
    ],
)
def test_goals_of_the_model(change: dict[str, float], met: list[bool]) -> None:
    """Each goal is met or not by the fastest exported form, with its figure; eager torch does not count."""
    tf32 = 450.0 if change.get("clips/s") == 900.0 else 600.0
    rows = {
        "time a": {**_FAST, "form": "r50 aoti fp16", "precision": "fp16", **change},
        "time b": {**_FAST, "form": "r50 aoti tf32", "precision": "tf32", "clips/s": tf32},
        "time c": {**_FAST, "form": "r50 eager fp16", "precision": "fp16", "runtime": EAGER, "clips/s": 5000.0},
        "load r50 aoti fp16": {"state": DONE, "GB, batch of 8": 3.5},
    }
    found = goals.of_figures(rows)
    assert [goal["met"] for goal in found] == met
    assert found[0]["value"] == change.get("clips/s", 1200.0)
    assert "3.5 GB" in found[3]["figure"]


def test_goal_without_its_figure() -> None:
    """What was not measured is not met."""
    for found in (goals.of_correct({}), goals.of_figures({}), goals.of_served({}, "340x256")):
        assert not any(goal["met"] for goal in found)
        assert all(goal["figure"] == "was not measured" for goal in found)


@pytest.mark.parametrize(("rate", "decoding", "met"), [(510, 900, True), (460, 500, True), (400, 500, False)])
def test_goal_of_the_server(rate: float, decoding: float, met: bool) -> None:
    """500 clips a second, or nine tenths of what the cores decode, whichever way that was measured higher."""
    rows = {
        "served 340x256 8 clients": {"clips/s": rate / 2},
        "served 340x256 64 clients": {"clips/s": rate},
        "served 1920x1080 64 clients": {"clips/s": 9999.0},
        "decoding 340x256": {"clips/s": decoding / 2},
        "sandbox 340x256": {"clips/s": decoding},
    }
    (goal,) = goals.of_served(rows, "340x256")
    assert goal["met"] is met


def test_top_1_of_fp16() -> None:
    """One clip with another best label is enough to miss the goal."""
    rows = {
        "parity r50 aoti fp16": {"state": DONE, "top-1": 1.0},
        "parity r50 aoti bf16": {"state": DONE, "top-1": 0.75},
    }
    assert goals.of_correct(rows)[0]["met"]
    rows["parity r50 compile fp16"] = {"state": DONE, "top-1": 15 / 16}
    assert not goals.of_correct(rows)[0]["met"]


# Batches


@pytest.mark.parametrize(("most", "sizes"), [(10, [10]), (4, [4, 3, 3]), (1, [1] * 10), (0, [1] * 10)])
def test_only_as_many_workers_as_fit(most: int, sizes: list[int]) -> None:
    """Ten settings are spread over servers none of which has more workers than fit; none is left out."""
    settings = [(str(number), {"batchSize": number}) for number in range(10)]
    found = batching.groups(settings, most)
    assert [len(group) for group in found] == sizes
    assert sorted((each for group in found for each in group), key=lambda each: int(each[0])) == settings


@pytest.mark.parametrize(("needed", "free", "workers"), [(4.0, 75.0, 16), (30.0, 10.0, 1), (0.0, 1.0, 1)])
def test_workers_that_fit(needed: float, free: float, workers: int) -> None:
    """One worker runs already; others get four fifths of the memory that is free beside it."""
    assert batching.fit(needed, free) == workers


# The machine

_SMI = """#!/bin/sh
echo "NVIDIA H100, 580.1, 81559 MiB, 1024 MiB, 700.00 W, 612.50 W, 1980 MHz, 1980 MHz, 2619 MHz, 61"
"""


def test_state_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Driver, power limit and clocks stand beside figures where nvidia-smi tells them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert measure.gpu_state() == []
    program = tmp_path / "nvidia-smi"
    program.write_text(_SMI, encoding="utf-8")
    program.chmod(0o755)
    (state,) = measure.gpu_state()
    assert state["driver_version"] == "580.1"
    assert state["power.limit"] == "700.00 W"
    assert state["clocks.sm"] == "1980 MHz"
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2; exit 9\n", encoding="utf-8")
    assert measure.gpu_state() == []
