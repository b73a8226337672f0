"""What the stages share: the record, the time that is left, processes, and jobs side by side."""

from __future__ import annotations

import hashlib
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.gpu.child import Answer, Child, ChildError, LateError, RefusedError
from benchmarks.gpu.forms import Form
from benchmarks.gpu.host import identity
from benchmarks.gpu.plan import EAGER, Deadline, Places, Plan, cores
from benchmarks.gpu.record import DONE, FAILED, SKIPPED, TO_DO, Record, Row, read
from benchmarks.measure import console

CORRECT = "correct"
HOST = "host"
_HOST_SECONDS = 120.0
_MARKER = ".made-by-gpu-check"
"""Name of a file in each folder that may be removed."""
_GB_OF_A_PROCESS = 6.0
"""Of the GPU, for a full-size network with its CUDA graphs."""


class CannotRunError(Exception):
    """The stage cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Stage:
    """A stage that has begun."""

    name: str
    plan: Plan
    places: Places
    deadline: Deadline
    record: Record
    host: Mapping[str, Any]

    @property
    def side_by_side(self) -> int:
        """Processes that may build and check at once: as many as cores and the GPU's memory allow."""
        memory = min((gpu["memory_gb"] for gpu in self.host["gpus"]), default=None)
        most = cores() * 3 // 4  # compilers wait for each other now and then
        fit = most if memory is None else min(most, int(memory / _GB_OF_A_PROCESS))
        return max(1, fit)

    @property
    def shared_cores(self) -> dict[str, str]:
        """Environment variables for a process that has others beside it."""
        threads = str(max(1, cores() // self.side_by_side))
        return {"OMP_NUM_THREADS": threads, "TORCHINDUCTOR_COMPILE_THREADS": threads}

    def forms(self, models: Sequence[str], precision: str, *others: str) -> list[Form]:
        """The forms of models in one precision, in every runtime and in others."""
        plan = self.plan
        return [
            Form(model, runtime, precision, plan.device, plan.crop)
            for model in models
            for runtime in (*plan.runtimes, *others)
        ]

    def process(self, form: Form, *arguments: str, variables: Mapping[str, str] | None = None) -> Child:
        """A form's process."""
        given = [*form.arguments, "--work", str(self.places.work), *arguments]
        return Child("benchmarks.gpu.form_process", *given, log=self.places.log(form.name), variables=variables)

    def prepare(self, model: str) -> bool:
        """Make a model's network and clips, which is a row; returns whether they are there."""
        form = Form(model, "none", "fp32", "cpu", self.plan.crop)
        with self.process(form) as child:
            return self.attempt(
                f"network {model}", lambda: child.ask("prepare", self.deadline.left), again=True
            )

    def export(self, form: Form, seconds: float, variables: Mapping[str, str] | None = None) -> Answer:
        """Have a form's artifact written, in a process that ends afterwards.

        Raises:
            ChildError: see `Child.ask`.
        """
        with self.process(form, variables=variables) as child:
            return child.ask("export", seconds)

    def compared(
        self, form: Form, clips: int, deadline: Deadline, variables: Mapping[str, str] | None = None
    ) -> Row:
        """Export a form, load it in another process as a worker does, and compare its scores.

        Args:
            form: also `EAGER`, which is compared with nothing.
            clips: of the gate.
            deadline: of all that.
            variables: environment variables of the processes.

        Raises:
            RefusedError: its scores are wrong, or a batch size has no CUDA graph.
            ChildError: its process ended, or says something else.
        """
        variables = variables or self.shared_cores
        row = self.export(form, deadline.left, variables)
        if "cannot" in row:
            return row
        with self.process(form, variables=variables) as child:
            row |= child.ask("load", deadline.left)
            said: list[str] = row.pop("warnings")
            if form.runtime != EAGER:
                row |= child.ask("check", deadline.left, clips=clips)
                said += row.pop("warnings")
        if without := row.pop("no graph for", []):
            raise RefusedError(f"no CUDA graph for batches of {without}: {'; '.join(said) or 'no word why'}")
        return {**row, "warnings": said}

    def attempt(self, name: str, work: Callable[[], Row], *, again: bool = False) -> bool:
        """Do a row's work and put it down, whatever becomes of it; returns whether it is done.

        A row whose work answers ``cannot`` is skipped. One that has no time left stays to do.

        Args:
            name: of the row.
            work: returns the row's figures.
            again: also where an earlier run has done it.
        """
        if self.record.settled(name) and not again:
            return True
        if not self.deadline.left:
            return False
        try:
            row = work()
        except Exception as error:  # whatever it is, the other rows are not lost
            lines = traceback.format_exc().strip().splitlines()
            self.failed(name, error if isinstance(error, ChildError) else ChildError(repr(error), lines[-8:]))
            return False
        if reason := row.get("cannot"):
            self.record.put(name, SKIPPED, reason=reason)
            return False
        self.record.put(name, DONE, **row)
        return True

    def failed(self, name: str, error: ChildError) -> None:
        """Put down what became of a row. What the end of a time has stopped is not wrong, and stays to do."""
        if not self.deadline.left:
            return
        state = TO_DO if isinstance(error, LateError) else FAILED
        if "OutOfMemoryError" in str(error):
            state = SKIPPED  # no room for a batch is what this GPU is, and no fault
        self.record.put(name, state, reason=str(error), log=error.log)

    def run(self, jobs: Sequence[Callable[[], object]]) -> None:
        """Run jobs, some side by side."""
        with ThreadPoolExecutor(self.side_by_side) as pool:
            try:
                for done in [pool.submit(job) for job in jobs]:
                    done.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def begin(name: str, plan: Plan, places: Places, deadline: Deadline, *, fresh: bool) -> Stage:
    """Look at the machine and open the stage's record.

    Args:
        name, plan, places, deadline: of the stage.
        fresh: forget what an earlier run did.

    Raises:
        CannotRunError: there is no GPU where one is wanted, or `correct` has failed on this machine.
    """
    places.out.mkdir(parents=True, exist_ok=True)
    places.work.mkdir(parents=True, exist_ok=True)
    with Child("benchmarks.gpu.host", log=places.work / "host.log") as child:
        try:
            host = child.ask("describe", _HOST_SECONDS)
        except ChildError as error:
            raise CannotRunError(
                f"torch does not look at this machine: {error}; {' / '.join(error.log)}"
            ) from error
    if not plan.rehearsal and not host["gpus"]:
        raise CannotRunError(
            f"torch {host['machine']['versions']['torch']} sees no CUDA device, and this stage needs one; "
            "--rehearse goes through it on the CPU with small sizes"
        )
    same = {**identity(host), "rehearsal": plan.rehearsal}
    places = replace(places, work=_own(places.work, same))
    path = places.out / f"{name}.json"
    if fresh:
        path.unlink(missing_ok=True)
    notes = {"machine": host["machine"], **({} if name == CORRECT else _checked(places, same))}
    record = Record(path, name, same, notes)
    stage = Stage(name, plan, places, deadline, record, host)
    record.put(HOST, DONE, **{key: value for key, value in host.items() if key != "machine"})
    return stage


def _checked(places: Places, same: Mapping[str, Any]) -> dict[str, str]:
    """What `correct` has found on this machine.

    Raises:
        CannotRunError: something is wrong.
    """
    before = read(places.out / f"{CORRECT}.json")
    if before.get("identity") != same:
        return {CORRECT: "not run here before; each form is compared with the eager model before it is timed"}
    states = [row["state"] for row in before["rows"].values()]
    if FAILED in states:
        raise CannotRunError(
            f"{places.out / CORRECT}.json has {states.count(FAILED)} failed rows: mend them first"
        )
    return {CORRECT: "passed" if before.get("passed") else "nothing failed, but not all of it was reached"}


def _own(work: Path, same: Mapping[str, Any]) -> Path:
    """The folder for what this code makes on this machine; those of other code are removed."""
    own = work / hashlib.sha256(repr(same).encode()).hexdigest()[:16]
    for marker in work.glob(f"*/{_MARKER}"):
        if marker.parent != own:
            shutil.rmtree(marker.parent)
    own.mkdir(exist_ok=True)
    (own / _MARKER).touch()
    return own


@contextmanager
def stopped_by_sigterm(stage: Stage) -> Iterator[None]:
    """Have SIGTERM end the stage: the time is over in earnest, and what there is is kept."""

    def stop(number: int, _: FrameType | None) -> None:
        stage.record.close()
        stage.deadline.over()
        Child.kill_all()
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def summary(record: Record, goals: Sequence[Row]) -> int:
    """Close the record, say what became of everything, and return the exit code: 0 where nothing failed and
    nothing is left to do.
    """
    record.close(goals)
    rows = record.rows()
    states = [row["state"] for row in rows.values()]
    console.rule()
    console.print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))
    for name, row in rows.items():
        if row["state"] != DONE:
            console.print(f"{row['state']:7} {name}: {row.get('reason', 'the time was over')}", markup=False)
    for goal in goals:
        console.print(f"{'met' if goal['met'] else 'NOT met':7} {goal['goal']}: {goal['figure']}", markup=False)
    return 0 if all(row["state"] in (DONE, SKIPPED) for row in rows.values()) else 1
