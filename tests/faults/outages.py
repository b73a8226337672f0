"""Everything that can die or hang does, once each: how many seconds until there is a right answer again.

The real handler and model run, wrapped so that their workers can be told to hang, to answer errors or to die
(`tests.helpers_fragile`). Beside it: what only looks like an outage must not be mended.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from deploy import server, supervisor
from deploy.management import get_models
from deploy.preflight import DeployError
from deploy.probe import Answer, Probe, predicts
from tests.helpers_fragile import Faults

from .harness import PROJECT, Verdict

RECOVERY_SECONDS = 15.0
"""On a machine that has nothing else to do."""
_HEALTHY_SECONDS = 16.0
"""Between two outages: until the supervisor takes the next one for a new one."""
PATIENCE_SECONDS = 150.0
_CLIENTS, _BETWEEN_SECONDS = 8, 0.5
"""Some wait for an answer that never comes while others already ask anew."""
_RETRY_CONFIG = "maxRetryTimeoutInSec: 2\n"
"""TorchServe gives a worker up after two seconds in the place of five minutes."""
_ACTION = re.compile(r"killed|are new|anew|told to go on")


@dataclass
class Site:
    """A supervised server whose workers can be broken."""

    run_dir: Path
    log_dir: Path
    faults: Faults
    model: str

    @property
    def state(self) -> server.State:
        """Of the server that runs now."""
        return server.running(self.run_dir)

    def pids(self) -> list[int]:
        """Of the workers."""
        (model,) = get_models(self.state.management_url, [self.model])
        return [worker.pid for worker in model.workers]

    def answered(self) -> float:
        """Seconds until one of a few clients, who ask one after the other, has the right answer."""
        began = time.monotonic()
        asking: list[Probe] = []

        def right() -> bool:
            if any(client.finding and client.finding.answer is Answer.RIGHT for client in asking):
                return True
            asking[:] = [client for client in asking if client.finding is None]
            rested = not asking or time.monotonic() - asking[-1].began > _BETWEEN_SECONDS
            if rested and len(asking) < _CLIENTS:
                with suppress(DeployError):  # for a moment there is no server
                    asking.append(Probe(self.state, self.model, PATIENCE_SECONDS))
            return False

        until(right)
        return time.monotonic() - began

    def renewed(self, old: list[int]) -> bool:
        """Whether other workers than these are READY; nobody is asked for a prediction."""
        try:
            (model,) = get_models(self.state.management_url, [self.model], 1.0)
        except (DeployError, requests.RequestException, ValueError):
            return False
        return model.ready() and not set(old) & {worker.pid for worker in model.workers}

    def acted(self) -> list[str]:
        """What the supervisor has done so far, from its log."""
        log = (self.log_dir / supervisor.LOG_FILE).read_text(encoding="utf-8")
        return [line for line in log.splitlines() if _ACTION.search(line)]


def outages(archive: Path, seconds: float, seed: int, limit: float = RECOVERY_SECONDS) -> Verdict:
    """Each fault once, and again until the time is over.

    Args:
        archive: of the motion model.
        seconds: how long; each fault is tried once at least.
        seed: of nothing here: the faults and their order are always the same.
        limit: seconds until there must be a right answer again.
    """
    del seed
    slowest: dict[str, float] = {}
    end = time.monotonic() + seconds
    with site(archive) as up:
        while not slowest or time.monotonic() < end:
            for name, fault in _OUTAGES.items():
                slowest[name] = max(slowest.get(name, 0.0), fault(up))
                _settle(up)
    verdict = Verdict({f"{name}_seconds": round(taken, 1) for name, taken in slowest.items()})
    for name, taken in slowest.items():
        verdict.expect(
            taken <= limit, f"{name}: a right answer within {limit:g} s, and not after {taken:.1f} s"
        )
    return verdict


def false_alarms(archive: Path, seconds: float, seed: int) -> Verdict:
    """A request that computes for 100 s, a full queue, a model that loads for a minute: nothing is mended.

    Args:
        archive: of the motion model.
        seconds: of which the request and the loading take a third each.
        seed: of nothing here.
    """
    del seed
    with site(archive) as up:
        state = up.state
        before = up.pids()
        with up.faults.fault("work", seconds / 3):
            answer = predicts(state, up.model, 2 * seconds)
        worked = up.acted()
        stayed = up.pids() == before
        with up.faults.fault("load", seconds / 3):
            began = time.monotonic()
            os.kill(before[0], signal.SIGKILL)
            up.answered()
            loaded = time.monotonic() - began
        acted = up.acted()
    verdict = Verdict({"worked_seconds": round(seconds / 3), "loaded_seconds": round(loaded)})
    verdict.expect(answer.answer is Answer.RIGHT, f"the long request is answered: {answer.reason}")
    verdict.expect(stayed and not worked, f"a worker at work is left alone: {worked}")
    verdict.expect(not acted[len(worked) :], f"a worker that loads is left alone: {acted}")
    return verdict


@contextmanager
def site(archive: Path) -> Iterator[Site]:
    """Serve a breakable copy of an archive, with a supervisor as `make serve` leaves one."""
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        home = Path(directory)
        faults = Faults(home)
        copy = faults.into(archive, home / "store", _RETRY_CONFIG)
        settings = server.Settings(
            model_store=copy.parent,
            config=PROJECT / "config.properties",
            run_dir=home / "run",
            log_dir=home / "logs",
            port=0,
        )
        server.start(settings)
        try:
            supervisor.launch(settings)
            up = Site(settings.run_dir, settings.log_dir, faults, copy.stem)
            up.answered()
            time.sleep(_HEALTHY_SECONDS)
            yield up
        finally:
            server.stop(settings.run_dir, drain_seconds=0)


def _killed_worker(up: Site) -> float:
    (worker,) = up.pids()
    os.kill(worker, signal.SIGKILL)
    return up.answered()


def _stopped_worker(up: Site) -> float:
    (worker,) = up.pids()
    os.kill(worker, signal.SIGSTOP)
    return up.answered()


def _worker_given_up(up: Site) -> float:
    log = up.log_dir / "ts_log.log"
    known = log.read_text(encoding="utf-8").count("Auto recovery failed again")
    with up.faults.fault("die"):
        os.kill(up.pids()[0], signal.SIGKILL)
        until(lambda: log.read_text(encoding="utf-8").count("Auto recovery failed again") > known)
    return up.answered()


def _killed_jvm(up: Site) -> float:
    os.kill(up.state.process.pid, signal.SIGKILL)
    return up.answered()


def _stopped_jvm(up: Site) -> float:
    os.kill(up.state.process.pid, signal.SIGSTOP)
    return up.answered()


def _of_the_workers(fault: str, value: float | str, *, asked: bool) -> Callable[[Site], float]:
    def run(up: Site) -> float:
        old = up.pids()
        with up.faults.fault(fault, value, old):
            taken = 0.0 if asked else until(lambda: up.renewed(old))
            return taken + up.answered()

    return run


_OUTAGES: dict[str, Callable[[Site], float]] = {
    "killed_worker": _killed_worker,
    "stopped_worker": _stopped_worker,
    "worker_given_up": _worker_given_up,
    "hanging_worker": _of_the_workers("hang", 1, asked=True),
    "hanging_worker_unasked": _of_the_workers("hang", 1, asked=False),
    "errors_503": _of_the_workers("errors", 503, asked=True),
    "errors_422_unasked": _of_the_workers("errors", 422, asked=False),
    "wrong_answers_unasked": _of_the_workers("says", '{"predictions": []}', asked=False),
    "killed_jvm": _killed_jvm,
    "stopped_jvm": _stopped_jvm,
}


def _settle(up: Site) -> None:
    time.sleep(_HEALTHY_SECONDS)
    up.answered()


def until(true: Callable[[], bool]) -> float:
    """Seconds until it is true; the patience where it never was."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > PATIENCE_SECONDS:
            return PATIENCE_SECONDS
        time.sleep(0.1)
    return time.monotonic() - began
