"""The tests that need a GPU, each a row: in processes that end at a failure and leave the rest to the next one.

An error that CUDA repeats for every call, or a crash, so costs one test. As pytest's plugin this module writes
down what becomes of each test as soon as that is known.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.apart import PROJECT

if TYPE_CHECKING:
    import pytest

    from benchmarks.gpu.stage import Stage

FILE = "ACTIONREC_TEST_REPORTS"
"""Environment variable with the path that a test process writes to."""
_POLL_SECONDS = 0.3
_MARKED = re.compile(r"pytest\.mark\.gpu\b|pytestmark\s*=.*\bgpu\b")
_COLLECT_SECONDS = 120.0


def modules() -> list[str]:
    """Modules that have tests marked ``gpu``: to collect all would import what a GPU host lacks."""
    found = sorted((PROJECT / "tests").rglob("test_*.py"))
    marked = [path for path in found if _MARKED.search(path.read_text(encoding="utf-8"))]
    return [path.relative_to(PROJECT).as_posix() for path in marked]


def collect(stage: Stage) -> list[str]:
    """The names of the tests.

    Raises:
        RuntimeError: there is none, or a module cannot be imported.
    """
    command = [*_pytest(stage), "--collect-only", "-q", *(stage.plan.test_modules or modules())]
    if stage.plan.test_words:
        command += ["-k", stage.plan.test_words]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=_COLLECT_SECONDS, check=False
    )
    names = [line for line in done.stdout.splitlines() if "::" in line and not line.startswith("ERROR")]
    if done.returncode or not names:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-6:]
        raise RuntimeError(f"pytest cannot collect the tests: {' / '.join(said)}")
    return names


def jobs(stage: Stage, names: Sequence[str]) -> list[Callable[[], None]]:
    """Jobs that run the tests: one for those of each runtime, which share what they export, and one for the
    others.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        if not stage.record.settled(row(name)):
            groups.setdefault(runtime_of(name, stage.plan.runtimes), []).append(name)
    return [partial(_run, stage, group, f"tests-{runtime}") for runtime, group in groups.items()]


def runtime_of(name: str, runtimes: Sequence[str]) -> str:
    """The runtime among a test's parameters; ``others`` where there is none."""
    parameters = name.partition("[")[2]
    named = [runtime for runtime in runtimes if re.search(rf"(^|-){runtime}(-|]|$)", parameters)]
    return max(named, key=len, default="others")


def _run(stage: Stage, names: list[str], file: str) -> None:
    waiting = list(names)
    reports = stage.places.work / f"{file}.jsonl"
    log = stage.places.work / f"{file}.log"
    while waiting and stage.deadline.left:
        reports.unlink(missing_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*_pytest(stage), "-x", "-q", "-p", "benchmarks.gpu.tests", *waiting],
                cwd=PROJECT,
                env={**os.environ, **stage.shared_cores, FILE: str(reports)},
                stdout=out,
                stderr=out,
            )
        try:
            begun, done = _follow(stage, process, reports)
        finally:
            process.kill()
            process.wait()
        lost = [name for name in begun if name not in done] or ([] if done else waiting[:1])
        if stage.deadline.left:
            for name in lost:
                reason = f"pytest ended with exit code {process.returncode}"
                stage.record.put(row(name), "failed", reason=reason, log=_tail(log))
        waiting = [name for name in waiting if name not in done and name not in lost]


def _follow(stage: Stage, process: subprocess.Popen[bytes], reports: Path) -> tuple[list[str], set[str]]:
    """Put down each test as it ends: (those that have begun, those that have ended)."""
    read, begun, done = 0, [], set()
    while True:
        over = process.poll() is not None
        lines = reports.read_text(encoding="utf-8").splitlines() if reports.exists() else []
        for line in lines[read:]:
            report = json.loads(line)
            if "state" not in report:
                begun.append(report["test"])
                continue
            done.add(report.pop("test_done"))
            stage.record.put(report.pop("row"), report.pop("state"), **report)
        read = len(lines)
        if over or not stage.deadline.left:
            return begun, done
        time.sleep(_POLL_SECONDS)


def row(name: str) -> str:
    """The row of a test."""
    return f"test {name.removeprefix('tests/')}"


def _pytest(stage: Stage) -> list[str]:
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "--rootdir", str(PROJECT)]
    return [*command, "-p", "no:cacheprovider", "-m", stage.plan.test_marker]


def _tail(log: Path) -> list[str]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line[:300] for line in lines if line.strip()][-8:]


def _write(**values: Any) -> None:  # noqa: ANN401 - JSON
    with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    _write(test=nodeid)


_seen: dict[str, list[pytest.TestReport]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test's set-up, its call or its clean-up has ended."""
    parts = _seen.setdefault(report.nodeid, [])
    parts.append(report)
    if report.when != "teardown":
        return
    values: dict[str, Any] = {"seconds": round(sum(part.duration for part in parts), 2)}
    state = "done"
    for part in parts:
        if part.failed:
            state, lines = "failed", str(part.longrepr).strip().splitlines()
            values["reason"] = next((line[2:] for line in lines if line.startswith("E ")), lines[-1]).strip()
            values["log"] = [line[:300] for line in lines[-30:]]
            break
        if part.skipped:
            state, values["reason"] = "skipped", str(part.longrepr)[-300:]
    _write(test_done=report.nodeid, row=row(report.nodeid), state=state, **values)
