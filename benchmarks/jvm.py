"""The cost of TorchServe's own process by how much Java compiles; the model answers at once.

Each setting has a server: fresh at first, as for somebody who waits for its first answers, then warm.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.apart import PROJECT
from benchmarks.archives import null_archive
from benchmarks.load import ROUNDS, Subject, raw, round_robin, torchserve
from benchmarks.measure import report
from benchmarks.peers import NULL
from benchmarks.videos import video

KEY = "vmargs="
SETTINGS = {
    "both compilers (Java's default)": "",
    "the second one late": "-XX:Tier4InvocationThreshold=100000 -XX:Tier4MinInvocationThreshold=100000 "
    "-XX:Tier4CompileThreshold=100000 -XX:Tier4BackEdgeThreshold=1000000",
    "the first one only (ours)": "-XX:TieredStopAtLevel=1",
}
CLIENTS = (8, 1)
ANSWERS = 300


def main() -> None:
    data, rows = video(340, 256), []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = null_archive(folder)
        subjects = []
        for name, options in SETTINGS.items():
            state = stack.enter_context(torchserve(store, _config(folder, options)))
            subjects.append(Subject(name, raw(state.predict_url(NULL)), pid=state.process.pid))
        for stage in ("fresh", "warm"):
            for clients in CLIENTS:
                before = {subject.name: _cpu_seconds(subject) for subject in subjects}
                measured = round_robin(subjects, data, clients, ANSWERS)
                for subject, row in zip(subjects, measured, strict=True):
                    spent = _cpu_seconds(subject) - before[subject.name]
                    # Includes the first round, and the first call of each turn.
                    answers = (ROUNDS + 1) * (ANSWERS + 1)
                    rows.append({"server": stage, **row, "its JVM's CPU ms an answer": spent / answers * 1e3})
    report("jvm", "TorchServe with a model that answers at once, by how much Java compiles", rows)


def _config(folder: Path, options: str) -> Path:
    """Write our configuration with other Java options; returns its path."""
    lines = (PROJECT / "config.properties").read_text(encoding="utf-8").splitlines()
    others = [line for line in lines if not line.startswith(KEY)]
    path = folder / f"config{len(options)}.properties"
    path.write_text("\n".join([*others, *([KEY + options] if options else [])]) + "\n", encoding="utf-8")
    return path


def _cpu_seconds(subject: Subject) -> float:
    """CPU seconds of the server's first process alone, without its workers."""
    times = psutil.Process(subject.pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
