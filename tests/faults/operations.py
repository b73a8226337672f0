"""What an operator does under load: a new version, and a stop."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests

from .harness import (
    PROJECT,
    Answer,
    Clip,
    Verdict,
    changed_archive,
    clips,
    closed_loop,
    count,
    once,
    serving,
)


def new_version(archive: Path, seconds: float, seed: int) -> Verdict:
    """A second version is registered and made the default under load: nothing but right answers."""
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        home = Path(directory)
        first, second = home / "store" / "motion.mar", home / "store" / "motion-2.mar"
        first.parent.mkdir()
        first.write_bytes(archive.read_bytes())
        checksum = archive.with_name("motion.mar.sha256").read_bytes()
        (home / "store" / "motion.mar.sha256").write_bytes(checksum)
        with changed_archive(archive, {"modelVersion": "2.0"}, {}) as other:
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


def _let_finish(management: str, model: str, version: str) -> None:
    """Wait until a version that gets no new requests has none left: first its queue, then its worker."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        (entry,) = requests.get(f"{management}/models/{model}/{version}", timeout=60).json()
        if entry["jobQueueStatus"]["pendingRequests"] == 0:
            break
        time.sleep(0.2)
    time.sleep(10)  # a batch, on a machine that has other work
