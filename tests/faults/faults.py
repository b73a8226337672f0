"""The faults themselves; each returns what was measured and which promises were broken."""

from __future__ import annotations

import random
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml

from deploy import server
from deploy.management import get_models

from . import attackers, operations, outages
from .harness import (
    BUSY,
    Answer,
    Clip,
    Verdict,
    after,
    capacity,
    changed_archive,
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
    with changed_archive(archive, {}, changed) as other, serving(other, workers=1) as (state, _):
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


FAULTS: dict[str, tuple[Callable[[Path, float, int], Verdict], float]] = {
    "killed-workers": (killed_workers, 120.0),
    "overload": (overload, 120.0),
    "poison": (poison, 120.0),
    "new-version": (operations.new_version, 60.0),
    "stopped": (operations.stopped, 120.0),
    "attackers": (attackers.attackers, 60.0),
    "outages": (outages.outages, 300.0),
    "false-alarms": (outages.false_alarms, 300.0),
}
"""Name -> the fault, and its full length in seconds."""
