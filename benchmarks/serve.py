"""The same `Service`, with its sandbox, behind TorchServe and other servers; and a model that answers at once.

All of them keep the memory that they free, and their threads spin briefly, as our server's workers do.

Closed loop: each client sends its next clip when it has its answer. Servers take turns, and each is started
anew for each turn: two processes with the same code can differ by 2 % for as long as they live. A server that
does not answer is named in the result and left out. Triton has an environment of its own, made by
`scripts/setup-bench`; ``--triton-python PATH`` names another.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import requests
from actionrec.model.host import keep_freed_memory
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest
from actionrec.video.decode import decode

from benchmarks.apart import PROJECT, answer, apart
from benchmarks.archives import R50, archive, null_archive, unpacked
from benchmarks.load import DEADLINE_SECONDS, Classify, Subject, Tally, check, load, process, raw, torchserve
from benchmarks.measure import console, report
from benchmarks.peers import NULL
from benchmarks.videos import video
from deploy.launch import BRIEF_SPIN
from deploy.preflight import DeployError, free_ports
from export.archive import SERVING

CONCURRENCY = (1, 2, 4, 8)
LAUNCHES = 5
OURS, IN_PROCESS = "TorchServe (ours)", "in-process"
WARM_UP = {NULL: 1000, "motion": 300, R50: 4}
"""Clips before any that count: Java compiles as it goes, and a full-size model hides that anyhow."""
CLIPS = {NULL: 300, "motion": 120, R50: 4}
"""A turn, for each number of clients: seconds. A clip takes a full-size model one."""
_START_SECONDS = 180

Send = Callable[[requests.Session, bytes], requests.Response]
Subjects = Callable[[int], list[Subject]]
"""Number of clients -> what answers them; all in what was launched."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=(R50, "motion", NULL), action="append")
    parser.add_argument("--clients", type=int, nargs="+", default=CONCURRENCY)
    parser.add_argument("--launches", type=int, default=LAUNCHES)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--triton-python", default=str(Path(sys.prefix) / "triton" / "bin" / "python"))
    options = parser.parse_args()
    if options.child:
        _answer(options.child)
        return
    for model in options.model or (NULL, "motion", R50):
        _compare(model, options.clients, options.launches, options.triton_python)


def _compare(model: str, concurrency: Sequence[int], launches: int, triton_python: str) -> None:
    data = video(340, 256)
    with tempfile.TemporaryDirectory() as folder:
        store, served = _archive(model, Path(folder))
        candidates: dict[str, Callable[[], AbstractContextManager[Subjects]]] = {
            OURS: partial(_ours, store, model),
            "LitServe": partial(_peer, "LitServe", "litserve", sys.executable, served, _litserve),
            "Ray Serve": partial(_peer, "Ray Serve", "rayserve", sys.executable, served, _rayserve),
            "Triton (pytriton)": partial(_peer, "Triton (pytriton)", "triton", triton_python, served, _triton),
        }
        if model != NULL:
            candidates = {IN_PROCESS: partial(_without_server, served), **candidates}
        missing: dict[str, str] = {}
        tally = Tally()
        gc.collect()
        gc.freeze()  # or a collection of torch's objects falls into somebody's turn
        for _ in range(launches):
            for name, launch in candidates.items():
                if name in missing:
                    continue
                try:
                    with launch() as subjects:
                        _turns(tally, subjects, concurrency, data, model)
                except (RuntimeError, DeployError, OSError) as error:
                    missing[name] = f"{name}: {error}"
                    console.print(missing[name], style="yellow")
    rows = sorted(tally.rows(), key=lambda row: int(row["clients"]))
    for row in rows:
        _compared(row, tally)
    title = f"{model} behind servers; {len(data) / 1e3:.0f} KB a clip, batches of up to {SERVING['batchSize']}"
    report(f"serve_{model}", title, rows, {"launches": launches, "not run": list(missing.values())})


def _turns(tally: Tally, subjects: Subjects, concurrency: Sequence[int], data: bytes, model: str) -> None:
    """One launch: warmed up, then under the load of so many clients, and so many."""
    for subject in subjects(4):
        load(subject, data, 4, WARM_UP[model])
    for clients in concurrency:
        for subject in subjects(clients):
            tally.turn(subject, data, clients, max(CLIPS[model], clients))


def _compared(row: dict[str, Any], tally: Tally) -> None:
    """Add the median ratio to the in-process rate of the same round, and the lowest and the highest."""
    base = tally.rates.get((row["clients"], IN_PROCESS), [])
    rates = tally.rates[row["clients"], row["what"]]
    # One that went missing has fewer rounds.
    ratios = [rate / whole for rate, whole in zip(rates, base, strict=False)]
    for name, of in (("of in-process", statistics.median), ("lowest", min), ("highest", max)):
        row[name] = of(ratios) if ratios else ""


@contextmanager
def _ours(store: Path, model: str) -> Iterator[Subjects]:
    with torchserve(store) as state:
        subject = Subject(OURS, raw(state.predict_url(model)))
        yield lambda _: [subject]


def _archive(model: str, folder: Path) -> tuple[Path, str]:
    """(store with the .mar, what the peers are given)."""
    store = folder / "store"
    if model == NULL:
        return null_archive(folder), NULL
    return store, str(unpacked(archive(model, store)))


@contextmanager
def _peer(name: str, module: str, python: str, served: str, send: Callable[[str], Send]) -> Iterator[Subjects]:
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
            yield lambda _: [Subject(name, classify)]
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


@contextmanager
def _without_server(served: str) -> Iterator[Subjects]:
    """The model alone, and the classifier called with as many clips as a batch has; both in one process."""
    with apart("benchmarks.serve", "--child", served, variables=BRIEF_SPIN) as child:
        model = process("model alone", child, head=bytes([0]))

        def subjects(clients: int) -> list[Subject]:
            batch = min(clients, SERVING["batchSize"])
            return [model, process(IN_PROCESS, child, batch, bytes([batch]))]

        yield subjects


def _answer(served: str) -> None:
    """The child's side: the first byte says how many clips to classify at once (0: the model alone), the clip
    follows.
    """
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
