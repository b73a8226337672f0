"""A day's load in twenty minutes: ``python -m benchmarks.day``. What a day costs of the error budget.

Clients come by chance (Poisson), few at night and many in the afternoon, three times in bursts, and 3 % of what
they send is no video. Meanwhile two workers are killed, another model takes over and is taken back, and the
server is restarted. Each reply must be the one that the same bytes had before the day.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests

from actionrec_client import ServerError
from actionrec_client.aio import AsyncActionClient
from benchmarks.apart import PROJECT
from benchmarks.measure import console, report
from deploy.observability.rules import OBJECTIVE
from deploy.state import running
from export.build import Order, build
from motion.clips import random_clip
from motion.scene import LABELS
from testing.media import encode, textured_frames

MODEL, CANDIDATE = "motion", "motion-next"
RATE = 6.0
"""Requests a second, on average; a machine of two cores answers 25."""
ODD_SHARE = 0.03
PATIENCE_SECONDS = 60.0
"""Of a client, with all its attempts."""
BURSTS = (9.5, 14.0, 19.0)
"""The hours at which they begin..."""
BURST_HOURS, BURST_TIMES = 0.25, 2.0
"""... how long they last, and how many times the hour's rate they are."""
Said = dict[bytes, str]
"""File -> its label, or the code of its refusal."""
_BLOCK_HOURS = 3
_CLIPS = 48


@dataclass(frozen=True, slots=True)
class Sent:
    """A request and what came of it."""

    hour: float
    """Of the day, when it was sent."""
    seconds: float
    """To the answer."""
    odd: bool
    """Whether it is no video."""
    right: bool
    """Whether the answer is the one from before the day."""
    said: str
    """The label, or the error's code."""


class Day:
    """When requests come.

    Args:
        seconds: that the day takes.
        rate: requests a second, on average without the bursts.
        seed: of the chance.
    """

    def __init__(self, seconds: float, rate: float, seed: int = 0) -> None:
        self.seconds, self._rate = seconds, rate
        self._chance = np.random.default_rng(seed)

    def rate(self, hour: float) -> float:
        """Requests a second at an hour: a fifth of the average at 3 o'clock, 1.8 times it at 15."""
        rate = self._rate * (1.0 + 0.8 * math.sin((hour - 9.0) / 24.0 * 2.0 * math.pi))
        burst = any(begin <= hour < begin + BURST_HOURS for begin in BURSTS)
        return rate * BURST_TIMES if burst else rate

    def arrivals(self) -> list[float]:
        """Hours at which a request comes, in order."""
        most = self._rate * 1.8 * BURST_TIMES
        gaps = self._chance.exponential(1.0 / most, size=math.ceil(most * self.seconds * 1.2) + 100)
        hours = np.cumsum(gaps) / self.seconds * 24.0
        kept = self._chance.random(len(hours)) * most
        return [float(hour) for hour, at in zip(hours, kept, strict=True) if hour < 24 and at < self.rate(hour)]


class Server:
    """The server as `make serve` starts it: supervisor, gateway, two models behind one name."""

    def __init__(self, home: Path) -> None:
        self._home = home
        for name in (MODEL, CANDIDATE):
            build(Order(model=MODEL, name=name, store=home / "store"), console)
        self._ports: list[str] = ["--port", "0", "--gateway-port", "0"]
        self.url = ""
        self.down_seconds = 0.0
        """From the restart's begin to the first moment that all is ready again."""

    def start(self) -> None:
        """Start it; at the same ports as before."""
        self._deploy(
            "start", "--model-store", "store", "--log-dir", "logs", "--quiet", "--gateway", *self._ports
        )
        self.url = json.loads((self._home / "run" / "gateway.json").read_text())["url"]
        port = running(self._home / "run").inference_url.rpartition(":")[2]
        self._ports = ["--port", port, "--gateway-port", self.url.rpartition(":")[2]]

    def stop(self) -> None:
        """Answer what is in flight, and stop it."""
        self._deploy("stop")

    def restart(self) -> None:
        """Stop and start it."""
        began = time.perf_counter()
        self.stop()
        self.start()
        self.down_seconds = time.perf_counter() - began

    def kill_worker(self) -> None:
        """Kill a worker of the model with -9, whatever it does."""
        management = running(self._home / "run").management_url
        said = requests.get(f"{management}/models/{MODEL}", timeout=30).json()
        psutil.Process(int(said[0]["workers"][0]["pid"])).send_signal(signal.SIGKILL)

    def canary(self, what: str, *options: str) -> None:
        """See ``python -m deploy canary``."""
        self._deploy("canary", what, MODEL, *options)

    def faults(self) -> tuple[int, int]:
        """(requests for predictions that the gateway had, those of them that it answered with 5xx)."""
        asked = failed = 0
        with (self._home / "logs" / "gateway.log").open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if entry.get("event") == "request" and entry["path"].startswith("/predictions"):
                    asked += 1
                    failed += entry["status"] >= 500
        return asked, failed

    def _deploy(self, command: str, *options: str) -> None:
        arguments = [sys.executable, "-m", "deploy", command, "--run-dir", "run", *options]
        if command == "start":
            arguments += ["--config", str(PROJECT / "config.properties")]
        variables = {"PYTHONPATH": str(PROJECT)}
        done = subprocess.run(
            arguments,
            cwd=self._home,
            env={**os.environ, **variables},
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"deploy {command} failed: {done.stderr}")


def videos() -> list[bytes]:
    """Clips of all sizes, codecs and frame rates that the project makes."""
    return [random_clip(seed).data for seed in range(_CLIPS)]


def odd_files() -> list[bytes]:
    """What is no video, or none that can be classified."""
    whole = random_clip(0, codec="libx264").data
    return [
        b"",
        b"<html><body>Sign in</body></html>",
        whole[: len(whole) // 2],
        whole[:40] + bytes(len(whole) - 40),
        encode(textured_frames(64, 64, 2), 30)[:-300],
        bytes(range(256)) * 400,
    ]


async def live(
    day: Day, server: Server, good: Said, odd: Said, events: dict[float, tuple[str, Any]]
) -> list[Sent]:
    """Send what comes, and have happen what happens.

    Args:
        day: when requests come.
        server: that is asked.
        good: videos.
        odd: other files.
        events: hour -> what it is called, and a function.
    """
    chance = np.random.default_rng(1)
    began = time.perf_counter()
    seconds_of = day.seconds / 24.0
    tasks: list[asyncio.Task[Sent]] = []

    async def happen() -> None:
        for hour, (name, act) in sorted(events.items()):
            await asyncio.sleep(began + hour * seconds_of - time.perf_counter())
            console.print(f"{_clock(hour)}  {name}")
            await asyncio.to_thread(act)

    async with AsyncActionClient(server.url, model=MODEL, timeout=PATIENCE_SECONDS) as client:
        happening = asyncio.create_task(happen())
        for hour in day.arrivals():
            is_odd = chance.random() < ODD_SHARE
            pool = list((odd if is_odd else good).items())
            data, said = pool[int(chance.integers(len(pool)))]
            await asyncio.sleep(max(0.0, began + hour * seconds_of - time.perf_counter()))
            tasks.append(asyncio.create_task(_ask(client, hour, data, said, is_odd)))
        await happening
        return list(await asyncio.gather(*tasks))


async def _ask(client: AsyncActionClient, hour: float, data: bytes, wanted: str, odd: bool) -> Sent:
    began = time.perf_counter()
    said = await answer(client, data)
    return Sent(hour, time.perf_counter() - began, odd, said == wanted, said)


async def answer(client: AsyncActionClient, data: bytes) -> str:
    """The best label, or the code of the refusal."""
    try:
        return (await client.classify(data, top_k=1)).label
    except ServerError as error:
        return error.code


def summary(sent: Sequence[Sent], events: dict[float, tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row for each three hours of the day."""
    for first in range(0, 24, _BLOCK_HOURS):
        block = [one for one in sent if first <= one.hour < first + _BLOCK_HOURS]
        times = sorted(one.seconds * 1e3 for one in block if not one.odd) or [0.0]
        yield {
            "hours": f"{first:02}-{first + _BLOCK_HOURS:02}",
            "requests": len(block),
            "odd": sum(one.odd for one in block),
            "p50 ms": statistics.median(times),
            "p95 ms": times[int(len(times) * 0.95)],
            "longest ms": times[-1],
            "not as before": sum(not one.right for one in block),
            "what happened": ", ".join(
                name for hour, (name, _) in sorted(events.items()) if first <= hour < first + _BLOCK_HOURS
            ),
        }


def main() -> int:
    """Live a day; exit code 1 where a reply was not as before, or the budget was overdrawn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="that the day takes")
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second, on average")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        try:
            return _live(server, Day(options.minutes * 60.0, options.rate))
        finally:
            server.stop()


def _live(server: Server, day: Day) -> int:
    events: dict[float, tuple[str, Any]] = {
        7.0: ("a worker is killed", server.kill_worker),
        11.0: (
            "a tenth to the next model",
            lambda: server.canary("start", "--to", CANDIDATE, "--share", "0.1"),
        ),
        13.0: ("all to the next model", lambda: server.canary("promote")),
        16.0: ("back to the old model", lambda: server.canary("back")),
        17.0: ("a worker is killed", server.kill_worker),
        21.0: ("a restart", server.restart),
    }

    async def before(files: list[bytes]) -> Said:
        async with AsyncActionClient(server.url, model=MODEL, timeout=PATIENCE_SECONDS) as client:
            return {data: await answer(client, data) for data in files}

    good, odd = asyncio.run(before(videos())), asyncio.run(before(odd_files()))
    if not set(good.values()) <= set(LABELS) or set(odd.values()) & set(LABELS):
        raise RuntimeError(f"before the day: {Counter(good.values())}, {Counter(odd.values())}")
    asked_before, failed_before = server.faults()
    sent = asyncio.run(live(day, server, good, odd, events))
    asked, failed = server.faults()
    asked, failed = asked - asked_before, failed - failed_before
    wrong = Counter(one.said for one in sent if not one.right)
    budget = failed / asked / (1.0 - OBJECTIVE)
    notes = {
        "minutes": day.seconds / 60.0,
        "requests": len(sent),
        "odd": sum(one.odd for one in sent),
        "not as before": dict(wrong),
        "attempts at the gateway": asked,
        "attempts answered with 5xx": failed,
        "of the error budget": budget,
        "restart, s": round(server.down_seconds, 1),
    }
    report("day", f"A day in {day.seconds / 60:g} minutes", list(summary(sent, events)), notes)
    console.print(notes)
    return int(bool(wrong) or budget > 1.0)


def _clock(hour: float) -> str:
    return f"{int(hour):02}:{int(hour % 1 * 60):02}"


if __name__ == "__main__":
    sys.exit(main())
