"""Promise: the checks of a GPU host lose one row to whatever goes wrong, and say what became of each.

There is no GPU in these tests: what a GPU host runs is run on the CPU, or meets what a GPU would do to it.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.gpu import correct, figures, tests
from benchmarks.gpu import stage as stages
from benchmarks.gpu.child import Child, LateError, LostError, RefusedError
from benchmarks.gpu.forms import Form
from benchmarks.gpu.plan import MOTION, PRECISIONS, R50, REHEARSAL, RUNTIMES, Deadline, Plan
from benchmarks.gpu.record import DONE, FAILED, SKIPPED, TO_DO, Record, read
from deploy.processes import runs
from export import artifacts
from tests.conftest import DEADLINE_SECONDS, PROJECT

pytest_plugins = ("tests.fixtures_gpu_check",)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    with Child("tests.helpers_gpu_child", log=tmp_path / "child.log") as process:
        yield process


# Records


def test_file_is_whole_after_each_row(tmp_path: Path) -> None:
    """Whoever reads the file at any moment finds every row so far, and those that are still to come."""
    path = tmp_path / "rows.json"
    record = Record(path, "figures", {"code": "1"})
    record.plan(["one", "two"])
    assert {name: row["state"] for name, row in read(path)["rows"].items()} == {"one": TO_DO, "two": TO_DO}
    record.put("one", DONE, ms=1.5)
    assert read(path)["rows"]["one"] == {"state": DONE, "ms": 1.5}
    assert read(path)["rows"]["two"] == {"state": TO_DO}
    assert "passed" not in read(path)


def test_later_run_does_what_is_left(tmp_path: Path) -> None:
    """A run on the same machine with the same code keeps what is done and skipped, and tries the rest again."""
    path = tmp_path / "rows.json"
    first = Record(path, "figures", {"code": "1"})
    first.plan(["done", "skipped", "failed", "to do"])
    first.put("done", DONE, ms=1.0)
    first.put("skipped", SKIPPED, reason="none here")
    first.put("failed", FAILED, reason="crashed")
    first.close()
    again = Record(path, "figures", {"code": "1"})
    again.plan(["done", "skipped", "failed", "to do"])
    assert [name for name in again.rows() if again.settled(name)] == ["done", "skipped"]
    assert again.row("failed") == {"state": TO_DO}
    assert Record(path, "figures", {"code": "2"}).rows() == {}


def test_closed_record_changes_no_more(tmp_path: Path) -> None:
    """What a job says after the end of the stage counts no more: it was stopped."""
    record = Record(tmp_path / "rows.json", "figures", {})
    record.plan(["row"])
    record.close()
    record.put("row", FAILED, reason="was killed")
    assert read(tmp_path / "rows.json")["rows"] == {"row": {"state": TO_DO}}
    assert read(tmp_path / "rows.json")["passed"] is False


# Processes


def test_process_answers(child: Child) -> None:
    """One process answers all questions, and what it prints gets between none of them."""
    assert child.ask("pid", 60) == child.ask("pid", 60)


def test_error_leaves_the_process(child: Child) -> None:
    """An error is an answer, with its message; the process goes on."""
    before = child.ask("pid", 60)
    with pytest.raises(RefusedError, match="RuntimeError: out of luck"):
        child.ask("fail", 60, message="out of luck")
    assert child.ask("pid", 60) == before


@pytest.mark.parametrize(
    ("question", "values", "said"),
    [("crash", {}, "signal SIGSEGV"), ("fail", {"message": "CUDA error: an illegal address"}, "exit code 1")],
)
def test_process_that_ends(question: str, values: dict[str, str], said: str, child: Child) -> None:
    """After a crash, or an error that CUDA would repeat for ever, the next question has a new process."""
    before = child.ask("pid", 60)
    with pytest.raises(LostError, match=said) as error:
        child.ask(question, 60, **values)
    assert any("crash" in line or "illegal address" in line for line in error.value.log)
    assert child.ask("pid", 60) != before


def test_process_that_hangs(child: Child) -> None:
    """A process that does not answer in its time is ended, with the compilers that it has started."""
    child.ask("pid", 60)
    with pytest.raises(LostError, match="no answer within 3 s") as error:
        child.ask("hang", 3)
    started = int(error.value.log[-1])
    deadline = time.monotonic() + DEADLINE_SECONDS
    while _lives(started):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for whoever started it."""
    try:
        return runs(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


# Rows


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RefusedError("ParityError: wrong"), FAILED),
        (LostError("it ended"), FAILED),
        (LateError("no answer within 60 s"), TO_DO),
        (KeyError("unforeseen"), FAILED),
        (RefusedError("OutOfMemoryError: CUDA out of memory"), SKIPPED),
    ],
)
def test_row_that_goes_wrong(error: Exception, state: str, stage: stages.Stage) -> None:
    """Whatever a row's work raises is put down there. No room for a batch is what a GPU is, and no fault."""

    def work() -> dict[str, Any]:
        raise error

    assert not stage.attempt("row", work)
    assert stage.record.row("row")["state"] == state
    assert str(error) in stage.record.row("row")["reason"]
    assert stage.attempt("next", lambda: {"ms": 1.0})


def test_row_without_time(stage: stages.Stage) -> None:
    """What the end of the time stops, or does not reach, is to do: it is not wrong."""
    over = replace(stage, deadline=Deadline(0))
    over.record.plan(["row"])

    def work() -> dict[str, Any]:
        raise AssertionError("there was no time for it")

    over.attempt("row", work)
    over.failed("row", LostError("no answer within 0 s"))
    assert over.record.row("row") == {"state": TO_DO}
    assert stages.summary(over.record, []) == 1


def test_process_that_is_lost_costs_one_row(stage: stages.Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process crashes at one batch size, and has no memory for another, the others are timed."""
    form = Form(MOTION, artifacts.PORTABLE, "fp32", "cpu")

    class Crashing:
        def ask(self, _: str, __: float, batch: int, seconds: float) -> dict[str, Any]:
            if batch == 2:
                raise LostError("the process ended with signal SIGSEGV")
            if batch == 4:
                raise RefusedError("OutOfMemoryError: CUDA out of memory")
            timed = {"model": 10.0 * batch, "copy": 1.0, "whole": 10.0 * batch}
            return {**timed, "parts": 1, "peak GB": 1.0, "warnings": [], "seconds": seconds}

    monkeypatch.setattr(figures, "_cost", lambda *_: [])
    for batch in (1, 2, 4, 8):
        figures._turns(stage, {form: Crashing()}, batch, Deadline(60))  # type: ignore[dict-item]
    states = {name.split()[-1]: row["state"] for name, row in stage.record.rows().items()}
    assert states == {"1": DONE, "2": FAILED, "4": SKIPPED, "8": DONE}
    assert stage.record.row(f"time {form.name} batch 8")["clips/s"] == pytest.approx(100.0)


def test_graph_that_is_missing_is_wrong(stage: stages.Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a batch size that is not replayed from a graph fails its row, with what the log says of it."""
    answers: dict[str, dict[str, Any]] = {
        "export": {"export s": 1.0},
        "load": {"load s": 1.0, "warnings": ["No CUDA graph for a batch of 4: it was refused"]},
        "check": {"top-1": 1.0, "no graph for": [4], "warnings": []},
    }

    class Answering(Child):
        def ask(self, question: str, _: float, /, **__: object) -> dict[str, Any]:
            return dict(answers[question])

    monkeypatch.setattr(stages, "Child", Answering)
    form = Form(MOTION, artifacts.PORTABLE, "fp16", "cuda")
    with pytest.raises(RefusedError, match=r"no CUDA graph for batches of \[4\]: No CUDA graph .* refused"):
        stage.compared(form, 4, Deadline(60))
    answers["check"]["no graph for"] = []
    assert stage.compared(form, 4, Deadline(60))["top-1"] == 1.0


def test_all_gpus_of_a_host(stage: stages.Stage) -> None:
    """The best precision of every runtime is compared on each further GPU; memory limits what runs at once."""
    gpus = [{"memory_gb": 80.0}, {"memory_gb": 16.0}]
    several = replace(stage, plan=Plan(), host={"gpus": gpus, "machine": {}})
    forms_there = several.forms([R50], PRECISIONS[0])
    assert {form.device for form in correct._others(several, forms_there)} == {"cuda:1"}
    assert len(correct._others(several, forms_there)) == len(RUNTIMES)
    assert correct._others(several, several.forms([R50], PRECISIONS[1])) == []
    assert several.side_by_side <= 2


# The tests of a GPU

_TESTS = """
import os, pytest
def test_fine(): pass
def test_wrong(): assert 1 == 2
def test_crashes(): os._exit(9)
def test_lacks(): pytest.skip("no such package")
def test_last(): pass
"""


@pytest.fixture
def module() -> Iterator[Path]:
    """An empty module of tests, below the project, as pytest names tests by their place there."""
    (PROJECT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PROJECT / "build") as folder:
        yield Path(folder) / "test_some.py"


def test_each_test_is_a_row(stage: stages.Stage, module: Path) -> None:
    """A test that fails, or ends its process, costs none of those that come after it."""
    module.write_text(_TESTS, encoding="utf-8")
    here = replace(stage, plan=replace(REHEARSAL, test_modules=(str(module),), test_words=""))
    names = tests.collect(here)
    assert len(names) == 5
    (work,) = tests.jobs(here, names)
    work()
    rows = {name.split("::")[1]: row for name, row in here.record.rows().items()}
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "test_fine": DONE,
        "test_wrong": FAILED,
        "test_crashes": FAILED,
        "test_lacks": SKIPPED,
        "test_last": DONE,
    }
    assert "assert 1 == 2" in rows["test_wrong"]["reason"]
    assert "exit code 9" in rows["test_crashes"]["reason"]
    assert "no such package" in rows["test_lacks"]["reason"]
    assert tests.jobs(here, names) != []
    assert [name for name in names if not here.record.settled(tests.row(name))] == [names[1], names[2]]


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("tests/test_gpu.py::test_any[aoti]", "aoti"),
        ("tests/test_gpu.py::test_any[fp16-compile]", "compile"),
        ("tests/test_gpu.py::test_any[compile-more-fp16]", "compile-more"),
        ("tests/test_gpu.py::test_compile", "others"),
    ],
)
def test_tests_of_a_runtime_share_a_process(name: str, runtime: str) -> None:
    """The runtime is found among a test's parameters, also where its name begins as another's."""
    assert tests.runtime_of(name, ["aoti", "compile", "compile-more"]) == runtime


def test_only_modules_with_tests_for_a_gpu() -> None:
    """Other modules import what a GPU host need not have."""
    assert "tests/test_gpu.py" in tests.modules()
    assert "tests/test_cuda.py" not in tests.modules()
    assert "tests/test_rtsp.py" not in tests.modules()
    for module in tests.modules():
        assert "mark.gpu" in (PROJECT / module).read_text(encoding="utf-8")


def test_module_that_cannot_be_collected(stage: stages.Stage, module: Path) -> None:
    """A module that cannot be imported is an error that names what it lacks, and no green run without tests."""
    module.write_text("import no_such_package\n", encoding="utf-8")
    here = replace(stage, plan=replace(REHEARSAL, test_modules=(str(module),), test_words=""))
    with pytest.raises(RuntimeError, match="no_such_package"):
        tests.collect(here)


def test_folder_of_the_work(tmp_path: Path) -> None:
    """What other code has made is removed, and nothing that the checks have not made."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").touch()
    first = stages._own(tmp_path, {"code": "1"})
    assert stages._own(tmp_path, {"code": "1"}) == first
    second = stages._own(tmp_path, {"code": "2"})
    assert not first.exists()
    assert second.exists()
    assert (tmp_path / "mine" / "letter").exists()


def test_signal_ends_a_stage(stage: stages.Stage) -> None:
    """SIGTERM closes the file and lets nothing new begin; afterwards the signal means what it did before."""
    before = signal.getsignal(signal.SIGTERM)
    stage.record.plan(["row"])
    with pytest.raises(SystemExit), stages.stopped_by_sigterm(stage):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
    assert not stage.attempt("row", dict)
    assert read(stage.places.out / "some.json")["passed"] is False
