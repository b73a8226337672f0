"""The faults themselves; each returns what was measured and which promises were broken."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import requests
import yaml

from deploy import server
from deploy.management import get_models
from export.archive import write_checksum

from . import attackers, outages
from .harness import (
    BUSY,
    PROJECT,
    Answer,
    Clip,
    Verdict,
    after,
    capacity,
    clips,
    closed_loop,
    count,
    once,
    open_loop,
    percentile,
    serving,
    with_retries,
)

READY_SECONDS = 15.0
"""After a worker was killed; on a machine that has nothing else to do."""
P99_FACTOR = 2.0
"""Of the time that a full queue takes to empty."""
INNOCENT_SHARE = 0.8
"""Of their rate without poison."""


def killed_workers(archive: Path, seconds: float, seed: int, ready_seconds: float = READY_SECONDS) -> Verdict:
    """Kill -9 of a worker, again and again, under load: clients that ask again get every right answer.

    Args:
        archive: of the motion model.
        seconds: one worker dies in each six of them (20 in two minutes).
        seed: of the clips, the choice of victims and the moments.
        ready_seconds: until both workers are READY again.
    """
    dice = random.Random(seed)
    recoveries: list[float] = []
    with serving(archive, workers=2) as (state, _):
        known = clips(state.predict_url(), seed)
        end = threading.Event()
        loads: list[list[Answer]] = []
        load = threading.Thread(
            target=lambda: loads.append(
                closed_loop(lambda clip: with_retries(state.predict_url(), clip), known, 4, end.is_set, seed)
            )
        )
        load.start()
        try:
            for _ in range(max(1, round(seconds / 6))):
                time.sleep(dice.uniform(0.5, 2.0))
                (model,) = get_models(state.management_url, state.models)
                victim = dice.choice(model.workers).process()
                if victim is None:
                    continue
                began = time.monotonic()
                victim.kill()
                _wait_ready(state, victim, began + 20 * ready_seconds)
                recoveries.append(time.monotonic() - began)
        finally:
            end.set()
            load.join()
    answers = loads[0]
    verdict = Verdict(
        {
            "kills": len(recoveries),
            "requests": len(answers),
            "slowest_recovery_seconds": round(max(recoveries), 1),
            "slowest_answer_seconds": round(max(answer.seconds for answer in answers), 1),
        }
    )
    verdict.expect(set(count(answers)) == {200}, f"every request is answered: {dict(count(answers))}")
    verdict.expect(all(answer.right for answer in answers), "every answer is the one for its clip")
    verdict.expect(
        max(recoveries) <= ready_seconds, f"ready within {ready_seconds:g} s each time: {recoveries}"
    )
    return verdict


def overload(archive: Path, seconds: float, seed: int, queue: int | None = None) -> Verdict:
    """Three times as many requests as can be answered: each gets its answer or 503, none waits without end.

    Args:
        archive: of the motion model.
        seconds: how long, and at least until the queue is full.
        seed: of the clips and moments.
        queue: its length, in the place of the archive's.
    """
    with zipfile.ZipFile(archive) as content:
        config = yaml.safe_load(content.read("model-config.yaml"))
    queue = queue or int(config["jobQueueSize"])
    changed = {"jobQueueSize": queue}
    with _changed(archive, {}, changed) as other, serving(other, workers=1) as (state, _):
        url = state.predict_url()
        known = clips(url, seed)
        able = capacity(url, known, max(5.0, seconds / 10), seed)
        # What comes in above what goes out fills the queue, and as much again is refused.
        seconds = max(seconds, 2 * (queue + 2 * int(config["batchSize"])) / (2 * able))
        answers = open_loop(lambda clip: once(url, clip), known, 3 * able, seconds, seed)
    counted = count(answers)
    accepted = [answer.seconds for answer in answers if answer.status == 200]
    # Besides the queue: a batch in the worker, and the one that is being put together.
    limit = P99_FACTOR * (queue + 2 * int(config["batchSize"])) / able
    verdict = Verdict(
        {
            "capacity_per_second": round(able, 1),
            "sent": len(answers),
            "answered": counted[200],
            "refused": counted[BUSY],
            "p99_seconds": round(percentile(accepted, 99), 2),
            "p99_limit_seconds": round(limit, 2),
        }
    )
    verdict.expect(counted[200] + counted[BUSY] == len(answers), f"answered or 503: {dict(counted)}")
    verdict.expect(counted[200] > 0 and all(answer.right for answer in answers), "every answer is right")
    verdict.expect(counted[BUSY] > 0, "it was too much: else this shows nothing")
    verdict.expect(percentile(accepted, 99) <= limit, "the accepted wait no longer than the queue takes, twice")
    return verdict


def poison(archive: Path, seconds: float, seed: int) -> Verdict:
    """One clip in ten is noise, cut off or a lie: no other one fails, and they are hardly slower."""
    with serving(archive, workers=1) as (state, _):
        url = state.predict_url()
        known = clips(url, seed)
        bad = _bad_clips(random.Random(seed), [clip.data for clip in known])
        dice = random.Random(seed)
        poisoned: list[int] = []

        def ask_mixed(clip: Clip) -> Answer:
            if dice.random() < 0.1:
                poisoned.append(once(url, dice.choice(bad)).status)
            return once(url, clip)

        rates = {"clean": 0.0, "mixed": 0.0}
        statuses, right = count([]), True
        # In turns, since a machine that is shared gets faster and slower.
        turns = 4
        for turn in range(turns):
            for name, ask in (("clean", lambda clip: once(url, clip)), ("mixed", ask_mixed)):
                answers = closed_loop(ask, known, 6, after(seconds / turns / 2), seed + turn)
                rates[name] += len(answers)
                statuses += count(answers)
                right = right and all(answer.right for answer in answers)
    share = rates["mixed"] / rates["clean"]
    verdict = Verdict(
        {
            "innocent": sum(statuses.values()),
            "poisoned": len(poisoned),
            "innocent_share_of_clean_rate": round(share, 2),
        }
    )
    verdict.expect(set(statuses) == {200} and right, f"no innocent request fails: {dict(statuses)}")
    verdict.expect(bool(poisoned) and all(400 <= s < 500 for s in poisoned), f"poison is refused: {poisoned}")
    verdict.expect(share >= INNOCENT_SHARE, f"the innocent have {INNOCENT_SHARE} of their rate")
    return verdict


def new_version(archive: Path, seconds: float, seed: int) -> Verdict:
    """A second version is registered and made the default under load: nothing but right answers."""
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        home = Path(directory)
        first, second = home / "store" / "motion.mar", home / "store" / "motion-2.mar"
        first.parent.mkdir()
        first.write_bytes(archive.read_bytes())
        checksum = archive.with_name("motion.mar.sha256").read_bytes()
        (home / "store" / "motion.mar.sha256").write_bytes(checksum)
        with _changed(archive, {"modelVersion": "2.0"}, {}) as other:
            second.write_bytes(other.read_bytes())
        # Production has the model API off; this is what it takes to have it on.
        text = (PROJECT / "config.properties").read_text(encoding="utf-8")
        config = home / "config.properties"
        config.write_text(text.replace("enable_model_api=false", "enable_model_api=true"), encoding="utf-8")
        with serving(first, config=config) as (state, _):
            url, management = state.predict_url(), state.management_url
            known = clips(url, seed)
            end = threading.Event()
            loads: list[list[Answer]] = []
            load = threading.Thread(
                target=lambda: loads.append(
                    closed_loop(lambda clip: once(url, clip), known, 4, end.is_set, seed)
                )
            )
            load.start()
            try:
                time.sleep(seconds / 3)
                options = {"url": second.name, "initial_workers": "1", "synchronous": "true"}
                registered = requests.post(f"{management}/models", params=options, timeout=300)
                default = requests.put(f"{management}/models/motion/2.0/set-default", timeout=60)
                changed = time.monotonic()
                time.sleep(seconds / 3)
                _let_finish(management, "motion", "1.0")
                removed = requests.delete(f"{management}/models/motion/1.0", timeout=60)
                time.sleep(seconds / 3)
            finally:
                end.set()
                load.join()
            last = once(url, known[0])
    answers = loads[0]
    versions = [answer.version for answer in answers]
    verdict = Verdict(
        {
            "requests": len(answers),
            "of_the_first": versions.count("1.0"),
            "of_the_second": versions.count("2.0"),
            "seconds_after_the_change": round(time.monotonic() - changed, 1),
        }
    )
    for name, reply in (("register", registered), ("set-default", default), ("unregister", removed)):
        verdict.expect(reply.ok, f"{name}: {reply.text}")
    verdict.expect(set(count(answers)) == {200}, f"nothing but 200: {dict(count(answers))}")
    verdict.expect(all(answer.right for answer in answers), "every answer is right")
    verdict.expect(last.version == "2.0" and versions.count("2.0") > 0, "the second version is served")
    return verdict


def stopped(archive: Path, seconds: float, seed: int) -> Verdict:
    """`stop` under load, again and again: who was let in gets an answer, the others are refused at the door."""
    let_in = refused = 0
    lost: list[str] = []
    wrong = 0
    end = time.monotonic() + seconds
    rounds = 0
    while rounds == 0 or time.monotonic() < end:
        rounds += 1
        with serving(archive, workers=2) as (state, run_dir):
            url = state.predict_url()
            known = clips(url, seed + rounds, 4)
            over = threading.Event()
            outcomes: list[str] = []

            def ask(
                clip: Clip, url: str = url, outcomes: list[str] = outcomes, over: threading.Event = over
            ) -> Answer:
                outcome = _at_the_door(url, clip)
                outcomes.append(outcome)
                if outcome == "refused":
                    over.set()
                return Answer(0, 0.0)

            load = threading.Thread(target=closed_loop, args=(ask, known, 12, over.is_set, seed + rounds))
            load.start()
            time.sleep(random.Random(seed + rounds).uniform(1.0, 2.0))
            done = _stop(run_dir)
            over.set()
            load.join()
        refused += outcomes.count("refused")
        let_in += outcomes.count("answered")
        wrong += outcomes.count("wrong")
        lost += [outcome for outcome in outcomes if outcome not in ("refused", "answered", "wrong")]
        if done.stdout != "Stopped.\n":
            lost.append(done.stdout + done.stderr)
    verdict = Verdict({"stops": rounds, "answered": let_in, "refused": refused, "lost": len(lost)})
    verdict.expect(not lost, f"nothing that was let in is lost: {lost[:3]}")
    verdict.expect(wrong == 0, "every answer is right")
    verdict.expect(refused > 0, "the load went on when the door closed: else this shows nothing")
    return verdict


def _at_the_door(url: str, clip: Clip) -> str:
    try:
        reply = requests.post(url, files={"video": clip.data}, timeout=120)
    except requests.ConnectionError as error:
        return "refused" if "Connection refused" in str(error) else f"lost: {error}"
    except requests.RequestException as error:
        return f"lost: {error}"
    if not reply.ok:
        return f"HTTP {reply.status_code}: {reply.text[:200]}"
    scores = {entry["label"]: entry["score"] for entry in reply.json()["predictions"]}
    return "answered" if max(scores, key=scores.__getitem__) in clip.scores else "wrong"


def _stop(run_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy", "stop", "--run-dir", str(run_dir)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)


def _wait_ready(state: server.State, victim: psutil.Process, deadline: float) -> None:
    """Until as many workers as before are READY, and none is the one that was killed."""
    while time.monotonic() < deadline:
        (model,) = get_models(state.management_url, state.models)
        pids = [worker.pid for worker in model.workers]
        if model.ready(2) and victim.pid not in pids and all(worker.process() for worker in model.workers):
            return
        time.sleep(0.1)


def _bad_clips(dice: random.Random, good: list[bytes]) -> list[Clip]:
    """Noise, files cut off at any place, files with bytes changed, and headers that promise a huge picture."""
    bad = [dice.randbytes(dice.randrange(1, 200_000)) for _ in range(4)]
    bad += [data[: dice.randrange(40, len(data) // 2)] for data in good[:4]]
    bad += [b"", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"<html></html>"]
    # A bare PPM-like picture and a Y4M that claim 100,000 x 100,000 pixels.
    bad += [b"YUV4MPEG2 W100000 H100000 F30:1 C420\nFRAME\n" + bytes(1000)]
    return [Clip(data, {}) for data in bad]


def _let_finish(management: str, model: str, version: str) -> None:
    """Wait until a version that gets no new requests has none left: first its queue, then its worker."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        (entry,) = requests.get(f"{management}/models/{model}/{version}", timeout=60).json()
        if entry["jobQueueStatus"]["pendingRequests"] == 0:
            break
        time.sleep(0.2)
    time.sleep(10)  # a batch, on a machine that has other work


@contextmanager
def _changed(archive: Path, model: dict[str, str], config: dict[str, int]) -> Iterator[Path]:
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


FAULTS: dict[str, tuple[Callable[[Path, float, int], Verdict], float]] = {
    "killed-workers": (killed_workers, 120.0),
    "overload": (overload, 120.0),
    "poison": (poison, 120.0),
    "new-version": (new_version, 60.0),
    "stopped": (stopped, 120.0),
    "attackers": (attackers.attackers, 60.0),
    "outages": (outages.outages, 300.0),
    "false-alarms": (outages.false_alarms, 300.0),
}
"""Name -> the fault, and its full length in seconds."""
