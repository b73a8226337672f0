"""What every fault is tried with: a server, clips whose answers are known, clients that count."""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import yaml

from actionrec_client import ActionClient, ServerError
from deploy import server
from export.archive import write_checksum
from motion.clips import random_clip
from motion.scene import LABELS

PROJECT = Path(__file__).resolve().parent.parent.parent
ATTEMPT_SECONDS = 120.0  # longer than a full queue takes, also on a machine that has other work
_SAME_SCORE = 1e-4
_LOST = 0  # the status of a request that got no answer at all
BUSY = 503
CLIENT_HEADER = "X-Actionrec-Client"


@dataclass(frozen=True)
class Clip:
    """A clip, and what the server says of it when nothing else goes on."""

    data: bytes
    scores: dict[str, float]


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    status: int
    """HTTP, of the last attempt; 0 where there was no answer."""
    seconds: float
    right: bool = True
    """The answer is the one for this clip; of others than 200 always true."""
    version: str = ""


@dataclass
class Verdict:
    """What was measured, and which promises were broken."""

    figures: dict[str, float | int | str]
    broken: list[str] = field(default_factory=list)

    def expect(self, kept: bool, promise: str) -> None:
        """Note a promise that was not kept."""
        if not kept:
            self.broken.append(promise)


@contextmanager
def serving(
    archives: Path | Sequence[Path], workers: int | None = None, config: Path = PROJECT / "config.properties"
) -> Iterator[tuple[server.State, Path]]:
    """A server of its own for these archives of one directory; yields its state and run directory."""
    archives = [archives] if isinstance(archives, Path) else archives
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        run_dir = Path(home) / "run"
        settings = server.Settings(
            model_store=archives[0].parent,
            models=tuple(path.stem for path in archives),
            config=config,
            run_dir=run_dir,
            log_dir=Path(home) / "logs",
            port=0,
            workers=workers,
        )
        state = server.start(settings)
        try:
            yield state, run_dir
        finally:
            server.stop(run_dir, drain_seconds=0)


def clips(url: str, seed: int, count: int = 16) -> list[Clip]:
    """Generated clips with the answers that the idle server gives."""
    made = [random_clip(seed * 1000 + number, LABELS[number % len(LABELS)]).data for number in range(count)]
    known = []
    for data in made:
        reply = requests.post(url, files={"video": data}, timeout=120)
        reply.raise_for_status()
        known.append(Clip(data, _scores(reply.json())))
    return known


def once(url: str, clip: Clip) -> Answer:
    """One attempt."""
    began = time.monotonic()
    try:
        reply = requests.post(url, files={"video": clip.data}, timeout=ATTEMPT_SECONDS)
    except requests.RequestException:
        return Answer(_LOST, time.monotonic() - began)
    seconds = time.monotonic() - began
    if reply.status_code != 200:
        return Answer(reply.status_code, seconds)
    return _answer(reply.json(), clip, seconds)


def _answer(reply: Mapping[str, Any], clip: Clip, seconds: float) -> Answer:
    scores = _scores(reply)
    right = scores.keys() == clip.scores.keys() and all(
        abs(score - clip.scores[label]) < _SAME_SCORE for label, score in scores.items()
    )
    return Answer(200, seconds, right, str(reply["model"]["version"]))


def with_retries(url: str, clip: Clip, limit_seconds: float = 120.0) -> Answer:
    """What a user's client makes of it, which asks again: classifying a clip twice does no harm."""
    began = time.monotonic()
    try:
        reply = ActionClient(url, timeout=limit_seconds).classify(clip.data).raw
    except ServerError as error:
        return Answer(error.status, time.monotonic() - began)
    return _answer(reply, clip, time.monotonic() - began)


def send(url: str, video: bytes, options: Mapping[str, str], name: str = "") -> requests.Response:
    """A form, once.

    Args:
        url: of the model.
        video, options: its fields.
        name: of the client; with one the form comes as nginx hands it on: named, and not as a form.
    """
    form = requests.Request("POST", url, data=options, files={"video": video}).prepare()
    if name:
        form.headers.update({CLIENT_HEADER: name, "Content-Type": "application/octet-stream"})
    with requests.Session() as session:
        return session.send(form, timeout=ATTEMPT_SECONDS)


def as_client(url: str, clip: Clip, name: str, limit_seconds: float = 120.0) -> Answer:
    """One clip of a client that a front has named, as nginx does; it asks again where it is told to.

    Args:
        url: of the model.
        clip: to classify.
        name: of the client; empty: none is given.
        limit_seconds: for all attempts.
    """
    began = time.monotonic()
    while True:
        reply = send(url, clip.data, {}, name)
        seconds = time.monotonic() - began
        if reply.status_code == 200:
            return _answer(reply.json(), clip, seconds)
        if reply.status_code != BUSY or seconds > limit_seconds:
            return Answer(reply.status_code, seconds)
        time.sleep(float(reply.headers.get("Retry-After", 0.1)))


def closed_loop(
    ask: Callable[[Clip], Answer], known: Sequence[Clip], clients: int, until: Callable[[], bool], seed: int
) -> list[Answer]:
    """So many clients, each of which asks again when it has its answer."""
    answers: list[Answer] = []

    def client(number: int) -> None:
        dice = random.Random(seed * 100 + number)
        while not until():
            answers.append(ask(dice.choice(known)))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def open_loop(
    ask: Callable[[Clip], Answer], known: Sequence[Clip], rate: float, seconds: float, seed: int
) -> list[Answer]:
    """So many requests a second at random moments, whether or not the others have their answers."""
    dice = random.Random(seed)
    with ThreadPoolExecutor(400) as pool:
        futures, moment, end = [], time.monotonic(), time.monotonic() + seconds
        while moment < end:
            time.sleep(max(0.0, moment - time.monotonic()))
            futures.append(pool.submit(ask, dice.choice(known)))
            moment += dice.expovariate(rate)
        return [future.result() for future in futures]


def capacity(url: str, known: Sequence[Clip], seconds: float, seed: int, clients: int = 8) -> float:
    """Answers a second when the server always has something to do."""
    began = time.monotonic()
    answers = closed_loop(lambda clip: once(url, clip), known, clients, after(seconds), seed)
    return len(answers) / (time.monotonic() - began)


def count(answers: Sequence[Answer]) -> Counter[int]:
    """Answers by status."""
    return Counter(answer.status for answer in answers)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many in a hundred lie."""
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else sum(values)


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


@contextmanager
def changed_archive(archive: Path, model: dict[str, str], config: dict[str, int]) -> Iterator[Path]:
    """The same archive with other values in its manifest and its model-config.yaml, in a store of its own."""
    with tempfile.TemporaryDirectory(prefix="faults-") as store:
        to = Path(store) / archive.name
        with zipfile.ZipFile(archive) as source, zipfile.ZipFile(to, "w") as target:
            for entry in source.infolist():
                content = source.read(entry)
                if entry.filename == "MAR-INF/MANIFEST.json":
                    manifest = json.loads(content)
                    manifest["model"] |= model
                    content = json.dumps(manifest).encode()
                elif entry.filename == "model-config.yaml":
                    values = yaml.safe_load(content) | config
                    values["actionrec"]["version"] = model.get("modelVersion", values["actionrec"]["version"])
                    content = yaml.safe_dump(values, sort_keys=False).encode()
                target.writestr(entry, content)
        write_checksum(to)
        yield to


def _scores(reply: Mapping[str, Any]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in reply["predictions"]}
