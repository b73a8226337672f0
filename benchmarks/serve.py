"""The same `Classifier`, with its sandbox, behind TorchServe and others; and a model that answers at once.

All of them keep the memory that they free, and have threads that spin briefly, as our server's workers do.

Closed loop: so many clients, each sending its next clip when it has its answer. Servers take turns, round by
round, and are stopped in between; one that does not answer is named in the result and left out. Triton has an
environment of its own, which `scripts/setup-bench` makes: ``--triton-python PATH`` names another.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import requests
from actionrec.decode import decode
from actionrec.host import keep_freed_memory
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest

from benchmarks.apart import PROJECT, answer, apart
from benchmarks.archives import R50, archive, null_archive, unpacked
from benchmarks.load import (
    DEADLINE_SECONDS,
    Classify,
    Subject,
    check,
    load,
    process,
    raw,
    round_robin,
    torchserve,
)
from benchmarks.measure import console, report
from benchmarks.peers import NULL
from benchmarks.videos import video
from deploy.preflight import DeployError, free_ports
from deploy.server import BRIEF_SPIN
from export.archive import SERVING

CONCURRENCY = (1, 2, 4, 8)
WARM_UP = {NULL: 1000, "motion": 200, R50: 4}
"""Clips before any that count: Java compiles as it goes, and a full-size model hides that anyhow."""
_START_SECONDS = 180

Send = Callable[[requests.Session, bytes], requests.Response]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=(R50, "motion", NULL), action="append")
    parser.add_argument("--clients", type=int, nargs="+", default=CONCURRENCY)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--triton-python", default=str(Path(sys.prefix) / "triton" / "bin" / "python"))
    options = parser.parse_args()
    if options.child:
        _answer(options.child)
        return
    for model in options.model or (NULL, "motion", R50):
        _compare(model, options.clients, options.triton_python)


def _compare(model: str, concurrency: Sequence[int], triton_python: str) -> None:
    data = video(340, 256)
    # Enough for a median, and for minutes rather than hours: a clip takes a full-size model a second.
    least = {NULL: 100, "motion": 24, R50: 4}[model]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store, served = _archive(model, folder)
        subjects, missing = [], []

        def ours(name: str) -> Subject:
            state = stack.enter_context(torchserve(store))
            return Subject(name, raw(state.predict_url(model)), pid=state.process.pid)

        def peer(module: str, python: str, send: Callable[[str], Send]) -> Callable[[str], Subject]:
            return lambda name: stack.enter_context(_peer(name, module, python, served, send))

        servers: dict[str, Callable[[str], Subject]] = {
            "TorchServe (ours)": ours,
            "LitServe": peer("litserve", sys.executable, _litserve),
            "Ray Serve": peer("rayserve", sys.executable, _rayserve),
            "Triton (pytriton)": peer("triton", triton_python, _triton),
        }
        for name, launch in servers.items():
            try:
                subjects.append(launch(name))
            except (RuntimeError, DeployError, OSError) as error:
                missing.append(f"{name}: {error}")
                console.print(missing[-1], style="yellow")
        for subject in subjects:
            load(subject, data, 4, WARM_UP[model])
        here = _without_server(stack, served) if model != NULL else {}
        rows = []
        for clients in concurrency:
            called = here.get(min(clients, SERVING["batchSize"]), [])
            rows += round_robin([*called, *subjects], data, clients, max(least, clients))
    for row in rows:
        base = next((r for r in rows if r["clients"] == row["clients"] and r["what"] == "in-process"), None)
        row["of in-process"] = row["clips/s"] / base["clips/s"] if base else ""
    title = f"{model} behind servers; {len(data) / 1e3:.0f} KB a clip, batches of up to {SERVING['batchSize']}"
    report(f"serve_{model}", title, rows, {"not run": missing})


def _archive(model: str, folder: Path) -> tuple[Path, str]:
    """(store with the .mar, what the peers are given)."""
    store = folder / "store"
    if model == NULL:
        return null_archive(folder), NULL
    return store, str(unpacked(archive(model, store)))


@contextmanager
def _peer(name: str, module: str, python: str, served: str, send: Callable[[str], Send]) -> Iterator[Subject]:
    """A server of `benchmarks.peers`, up when this returns and gone with its children afterwards."""
    port = free_ports("127.0.0.1")
    command = [
        python,
        "-W",
        "ignore",
        "-m",
        f"benchmarks.peers.{module}",
        "--archive",
        served,
        "--port",
        str(port),
        "--batch-size",
        str(SERVING["batchSize"]),
        "--batch-delay",
        str(SERVING["maxBatchDelay"]),
    ]
    with tempfile.TemporaryFile() as log:
        environment = {**os.environ, **BRIEF_SPIN}
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            post = send(f"http://127.0.0.1:{port}")

            def classify(session: requests.Session, data: bytes) -> None:
                check(post(session, data))

            _wait(classify, process, log)
            yield Subject(name, classify, pid=process.pid)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                pass
            finally:
                _kill_group(process.pid)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _wait(classify: Classify, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    deadline, data = time.monotonic() + _START_SECONDS, video(340, 256)
    with requests.Session() as session:
        while True:
            try:
                return classify(session, data)
            except (requests.RequestException, RuntimeError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    said = log.read().decode(errors="replace").strip().splitlines()[-1:]
                    raise RuntimeError(f"did not start: {said or error}") from error
            time.sleep(0.5)


def _litserve(url: str) -> Send:
    def post(session: requests.Session, data: bytes) -> requests.Response:
        body = {"video": base64.b64encode(data).decode()}
        return session.post(f"{url}/predict", json=body, timeout=DEADLINE_SECONDS)

    return post


def _rayserve(url: str) -> Send:
    return lambda session, data: session.post(url, data=data, timeout=DEADLINE_SECONDS)


def _triton(url: str) -> Send:
    def post(session: requests.Session, data: bytes) -> requests.Response:
        size = len(data)
        tensor = {
            "name": "clip",
            "shape": [1, size],
            "datatype": "UINT8",
            "parameters": {"binary_data_size": size},
        }
        output = {"name": "reply", "parameters": {"binary_data": True}}
        head = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        path = f"{url}/v2/models/clips/infer"
        return session.post(path, data=head + data, headers=headers, timeout=DEADLINE_SECONDS)

    return post


def _without_server(stack: ExitStack, served: str) -> dict[int, list[Subject]]:
    """Clips given at once -> the model alone, and the classifier called; both in one process of their own."""
    child = stack.enter_context(apart("benchmarks.serve", "--child", served, variables=BRIEF_SPIN))
    model = process("model alone", child, head=bytes([0]))
    return {n: [model, process("in-process", child, n, bytes([n]))] for n in range(1, SERVING["batchSize"] + 1)}


def _answer(served: str) -> None:
    """That process: a byte says how many clips to classify at once, 0: the model alone; then comes the clip."""
    keep_freed_memory()
    classifier = Classifier.load(Path(served), open_clips=SERVING["batchSize"], sandbox=True)
    frames = decode(video(340, 256), classifier.manifest.spec).frames
    pathways = classifier.runtime.transform([frames])

    def handle(message: bytes) -> str:
        if not message[0]:
            classifier.runtime.scores(list(pathways))
        for reply in classifier.classify([ClipRequest(message[1:])] * message[0]):
            if isinstance(reply, Exception):
                raise reply
        return "done"

    answer(handle)


if __name__ == "__main__":
    main()
