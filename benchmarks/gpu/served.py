"""``served``: clips a second through the real server, what holds it back, and the tutorial's loop beside it.

The archive is built and served as the project does it by itself. Then each part is measured alone: decoding on
all cores, copying to the device, the model, and the server with a model that answers at once. The part that can
do the least is the bottleneck.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests
from actionrec.manifest import Manifest

from benchmarks.apart import PROJECT
from benchmarks.archives import null_archive, unpacked
from benchmarks.gpu import goals
from benchmarks.gpu.child import Answer, Child, LostError, RefusedError
from benchmarks.gpu.forms import Form
from benchmarks.gpu.plan import R50, cores
from benchmarks.gpu.record import DONE, FAILED, Row
from benchmarks.gpu.stage import Stage
from benchmarks.load import torchserve
from benchmarks.measure import gpu_state
from benchmarks.peers import NULL
from benchmarks.videos import video
from deploy import status
from deploy.management import get_models
from deploy.preflight import DeployError
from deploy.state import State

_ARCHIVE, _WORKERS = "archive", "workers"
_CLIENT_PROCESSES = 4
"""At most, and no more than a quarter of the cores, which the server needs."""
_PART_SECONDS = 0.6
"""Of `Plan.load_seconds`: of a part that is measured alone."""

Clip = tuple[int, int]


def run(stage: Stage) -> list[Row]:
    """Run the stage; returns the goals that it answers."""
    plan, most = stage.plan, max(stage.plan.clients)
    counts = [(count, False) for count in sorted(plan.clients, reverse=True)] + [(most, True)]
    stage.record.plan([_ARCHIVE, _WORKERS])
    stage.record.plan(_served(clip, *count) for clip in plan.clips for count in counts)
    for clip in plan.clips:
        stage.record.plan(each.format(_name(clip)) for each in ("server {}", "sandbox {}", "decoding {}"))
        stage.record.plan([f"tutorial {_name(clip)}", f"bottleneck {_name(clip)}"])
    stage.record.plan(["model and copy"])
    files = {clip: _file(stage, clip) for clip in plan.clips}
    if not stage.attempt(_ARCHIVE, partial(_build, stage), again=True):
        return goals.of_served(stage.record.rows(), _name(plan.clips[0]))
    with _server(stage, _WORKERS, stage.places.work / "store") as state:
        if state:
            stage.attempt(_WORKERS, partial(_workers, stage, state), again=True)
            for clip in plan.clips:
                for count in counts:
                    given = state.predict_url(), files[clip], *count
                    stage.attempt(_served(clip, *count), partial(_load, stage, *given))
            stage.record.put("GPU under load", DONE, states=gpu_state())
    _null(stage, files, most)
    _decoding(stage, files)
    with Child("benchmarks.gpu.parts", log=stage.places.log("tutorial")) as child:
        for clip, path in files.items():
            asked = {"clip": str(path), "device": plan.device, **_part(stage)}
            stage.attempt(f"tutorial {_name(clip)}", partial(child.ask, "loop", stage.deadline.left, **asked))
    stage.attempt("model and copy", partial(_model, stage))
    for clip in plan.clips:
        row = bottleneck(stage.record.rows(), _name(clip))
        if row:
            stage.record.put(f"bottleneck {_name(clip)}", DONE, **row)
    return goals.of_served(stage.record.rows(), _name(plan.clips[0]))


def bottleneck(rows: dict[str, Row], clip: str) -> Row:
    """Which part holds the server back with clips of a size; empty where a part was not measured.

    Args:
        rows: of the stage.
        clip: ``340x256``.
    """
    served = max((row["clips/s"] for name, row in rows.items() if _is_served(name, row, clip)), default=None)
    parts = {
        "decode": rows.get(f"sandbox {clip}", {}).get("clips/s"),
        "copy": rows.get("model and copy", {}).get("copy clips/s"),
        "model": rows.get("model and copy", {}).get("model clips/s"),
        "server": rows.get(f"server {clip}", {}).get("clips/s"),
    }
    if served is None or None in parts.values():
        return {}
    named = min(parts, key=lambda name: float(parts[name] or 0.0))
    tutorial = rows.get(f"tutorial {clip}", {}).get("clips/s")
    return {
        "bottleneck": named,
        "served clips/s": served,
        "of the bottleneck": served / float(parts[named] or 1.0),
        **{f"{name} clips/s": rate for name, rate in parts.items()},
        **({"x tutorial": served / tutorial} if tutorial else {}),
    }


def _is_served(name: str, row: Row, clip: str) -> bool:
    return name.startswith(f"served {clip} ") and row["state"] == DONE


def _name(clip: Clip) -> str:
    return f"{clip[0]}x{clip[1]}"


def _served(clip: Clip, clients: int, named: bool) -> str:
    return f"served {_name(clip)} {clients} {'named clients' if named else 'clients'}"


def _file(stage: Stage, clip: Clip) -> Path:
    path = stage.places.work / f"{_name(clip)}.mp4"
    if not path.exists():
        path.write_bytes(video(*clip))
    return path


def _build(stage: Stage) -> Row:
    """Build the archive as users do, with random weights.

    Raises:
        ChildError: it cannot be built.
    """
    model, store = stage.plan.models[0], stage.places.work / "store"
    path = store / f"{model}.mar"
    if not path.exists():
        command = [sys.executable, "-W", "ignore", "-m", "export", "--model", model, "--store", str(store)]
        command += ["--device", stage.plan.device]
        if model == R50:
            command += ["--weights", "random"]
            command += ["--crop", str(stage.plan.crop)] if stage.plan.crop else []
        if len(stage.plan.runtimes) == 1:
            command += ["--runtime", stage.plan.runtimes[0]]
        try:
            done = subprocess.run(
                command, cwd=PROJECT, capture_output=True, text=True, timeout=stage.deadline.left, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise LostError(f"not built within {error.timeout:.0f} s") from error
        if done.returncode:
            said = (done.stdout + done.stderr).splitlines()
            raise RefusedError(next((line for line in said if "error" in line), said[-1]), said[-8:])
    manifest = Manifest.load(unpacked(path))
    return {
        "forms": [f"{each.runtime} {each.precision}" for each in manifest.artifacts],
        "parity": [dict(each.parity) for each in manifest.artifacts],
    }


@contextmanager
def _server(stage: Stage, row: str, store: Path) -> Iterator[State | None]:
    """A server of a store; None, and a failed row, where it does not start or the time is over."""
    with ExitStack() as stack:
        state = None
        if stage.deadline.left:
            try:
                state = stack.enter_context(torchserve(store))
            except DeployError as error:
                stage.record.put(row, FAILED, reason=str(error), log=list(error.details))
        yield state


def _workers(stage: Stage, state: State) -> Row:
    """How many workers there are, and what each of them runs.

    Raises:
        RefusedError: one runs on a CPU where GPUs are measured.
    """
    (model,) = get_models(state.management_url, state.models)
    devices = [status.device(state, worker) for worker in model.workers]
    log = (Path(state.log_dir) / "model_log.log").read_text(encoding="utf-8", errors="replace")
    if not stage.plan.rehearsal and "cpu" in devices:
        reasons = [line[-300:] for line in log.splitlines() if "The CPU is used" in line]
        raise RefusedError(f"{devices.count('cpu')} of {len(devices)} workers run on the CPU", reasons[-3:])
    url = f"{state.management_url}/models/{model.name}"
    serving = requests.get(url, params={"customized": "true"}, timeout=60).json()[0]["customizedMetadata"][
        "serving"
    ]
    return {
        "workers": len(model.workers),
        "batch": model.batch,
        "queue": model.queue,
        "runtime": serving["runtime"],
        "precision": serving["precision"],
        "devices": devices,
        "passed over": serving["passed_over"],
        "settings": status.settings(state, [model]),
        "warnings": [line[-300:] for line in log.splitlines() if "WARN" in line or "CUDA graph" in line][:20],
    }


def _part(stage: Stage) -> dict[str, Any]:
    """What a part is asked that is measured alone."""
    plan = stage.plan
    return {"model": plan.models[0], "crop": plan.crop, "seconds": plan.load_seconds * _PART_SECONDS}


def _load(stage: Stage, url: str, path: Path, clients: int, named: bool) -> Row:
    """A row: clips a second with so many clients.

    Raises:
        ChildError: a request failed, or a process of clients did.
    """
    count = max(1, min(_CLIENT_PROCESSES, cores() // 4, clients))
    shares = [clients // count + (number < clients % count) for number in range(count)]
    seconds = stage.plan.load_seconds
    with ExitStack() as stack:
        given: list[Callable[[], Answer]] = []
        for number, share in enumerate(shares):
            child = stack.enter_context(
                Child("benchmarks.gpu.clients", log=stage.places.log(f"clients-{number}"))
            )
            asked = {"url": url, "clip": str(path), "clients": share, "named": named}
            asked |= {"warm_up": seconds / 2, "seconds": seconds, "first": sum(shares[:number])}
            given.append(partial(child.ask, "load", stage.deadline.left, **asked))
        answers = _together(given)
    errors = [error for answer in answers for error in answer["errors"]]
    if errors:
        raise RefusedError(
            f"{sum(answer['failed'] for answer in answers)} requests failed: {errors[0]}", errors
        )
    taken = sorted(ms for answer in answers for ms in answer["ms"])
    if not taken:
        raise RefusedError(f"no clip was answered within {seconds:g} s")
    return {
        "clips/s": len(taken) / seconds,
        "p50 ms": statistics.median(taken),
        "p99 ms": taken[int(len(taken) * 0.99)],
        "clients' CPU s": sum(answer["cpu"] for answer in answers),
    }


def _null(stage: Stage, files: dict[Clip, Path], clients: int) -> None:
    """The server alone: the same requests to a model that answers at once."""
    names = {clip: f"server {_name(clip)}" for clip in files}
    if all(map(stage.record.settled, names.values())):
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        _server(stage, names[stage.plan.clips[0]], null_archive(Path(folder))) as state,
    ):
        for clip, path in files.items() if state else ():
            assert state
            stage.attempt(names[clip], partial(_load, stage, state.predict_url(NULL), path, clients, False))


def _decoding(stage: Stage, files: dict[Clip, Path]) -> None:
    """What decoding allows: a process a core without more, and as the workers have it done."""
    workers = stage.record.row(_WORKERS).get("workers", 1)
    for clip, path in files.items():
        bare = {**_part(stage), "clip": str(path)}
        stage.attempt(f"decoding {_name(clip)}", partial(_many, stage, cores(), "decoding", bare))
        sandboxed = {**bare, "threads": -(-cores() // workers), "named": True}
        stage.attempt(f"sandbox {_name(clip)}", partial(_many, stage, workers, "sandboxed", sandboxed))


def _many(stage: Stage, count: int, question: str, asked: dict[str, Any]) -> Row:
    """A question to many processes at once: their clips a second together."""
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child("benchmarks.gpu.parts", log=stage.places.log(f"parts-{number}")))
            for number in range(count)
        ]
        # All of them are up before one begins.
        _together([partial(child.ask, "ready", stage.deadline.left) for child in children])
        answers = _together([partial(child.ask, question, stage.deadline.left, **asked) for child in children])
    return {"clips/s": sum(answer["clips/s"] for answer in answers), "processes": count}


def _together(calls: Sequence[Callable[[], Answer]]) -> list[Answer]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]


def _model(stage: Stage) -> Row:
    """The model, and the copy to the device, in batches as large as the server's, on all of its GPUs."""
    workers = stage.record.row(_WORKERS)
    if workers.get("state") != DONE:
        raise RefusedError("the server did not start, so nobody knows what it runs")
    archive = stage.places.work / "store" / stage.plan.models[0]
    form = Form(
        stage.plan.models[0], workers["runtime"], workers["precision"], stage.plan.device, stage.plan.crop
    )
    with stage.process(form, "--archive", str(archive)) as child:
        values = {"batch": workers["batch"], "seconds": stage.plan.load_seconds * _PART_SECONDS}
        turn = child.ask("time", stage.deadline.left, **values)
    rate = workers["batch"] * 1e3 * len(set(workers["devices"]))
    return {
        "batch": workers["batch"],
        "model clips/s": rate / turn["model"],
        "copy clips/s": rate / turn["copy"],
        "both clips/s": rate / turn["whole"],
        "warnings": turn["warnings"],
    }
