"""Keeps one server up: what TorchServe does not bring back by itself, this does.

TorchServe restarts a worker that died for some minutes and then never again; nothing restarts TorchServe. This
looks every few seconds and

- gives a model new workers when one stays without a process, or when a real prediction gets no answer;
- starts the server anew when the JVM is gone, or does not answer its management API for long.

Each of these is tried again later and later while it does not help. All is written to ``supervisor.log``.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests

from . import server
from .management import Model, Worker, get_models, set_workers
from .preflight import DeployError
from .probe import predicts
from .processes import ServerProcess
from .state import save_supervisor

LOG_FILE = "supervisor.log"
_LOG_BYTES = 1_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """How patient the supervisor is; all in seconds but the last."""

    poll: float = 2.0
    """Between two looks."""
    dead_worker: float = 30.0
    """Without a process, before its model gets new workers: TorchServe's own tries come first."""
    silence: float = 60.0
    """Of the management API, before the server is started anew."""
    probe: float = 30.0
    """Between two predictions of the probe clip."""
    probe_deadline: float = 30.0
    """For its answer."""
    first_retry: float = 5.0
    """Until the second try of what did not help; it doubles with each one."""
    last_retry: float = 300.0
    """It does not grow beyond."""
    healthy: float = 120.0
    """Without a fault, until the next one counts as the first again."""
    failed_probes: int = 3
    """In a row, before a model gets new workers; as many again, and the server is started anew."""


@dataclass
class BackOff:
    """When a remedy may be tried again."""

    policy: Policy
    _tries: int = 0
    _last: float = 0.0

    def due(self, now: float) -> bool:
        """Whether enough time has passed since the last try."""
        if not self._tries or now - self._last > self._wait() + self.policy.healthy:
            self._tries = 0
            return True
        return now - self._last >= self._wait()

    def tried(self, now: float) -> None:
        """Call after each try."""
        self._tries, self._last = self._tries + 1, now

    def _wait(self) -> float:
        return min(self.policy.first_retry * 2.0 ** (self._tries - 1), self.policy.last_retry)


@dataclass
class Watched:
    """What is remembered of one model."""

    wanted: int
    """Workers; what `make scale` or the archive said last."""
    back_off: BackOff
    dead_since: float | None = None
    next_probe: float = 0.0
    failed_probes: int = 0


@dataclass
class Supervisor:
    """Watches the server of one run directory.

    Args:
        settings: the server's own; it is started anew with them, on the addresses that it had.
        policy: how patient.
    """

    settings: server.Settings
    policy: Policy = field(default_factory=Policy)
    _models: dict[str, Watched] = field(default_factory=dict)
    _heard: float = field(default_factory=time.monotonic)
    _restarts: BackOff = field(init=False)

    def __post_init__(self) -> None:
        self._restarts = BackOff(self.policy)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Watch until the server has been stopped by someone, or `until` says so."""
        while not until():
            state = server.load_state(self.settings.run_dir)
            if state is None:
                return
            try:
                self.look(state)
            except (DeployError, requests.RequestException) as error:
                logger.error("That did not work: %s", error)
            time.sleep(self.policy.poll)

    def look(self, state: server.State) -> None:
        """One look, and what follows from it."""
        if not state.process.alive():
            self._restart(state, "the JVM is gone")
            return
        try:
            models = get_models(state.management_url, state.models)
        except requests.RequestException as error:
            silent = time.monotonic() - self._heard
            if silent > self.policy.silence:
                self._restart(state, f"no answer from the management API for {silent:.0f} s ({error})")
            return
        self._heard = time.monotonic()
        for model in models:
            self._look_at(model, state)

    def _look_at(self, model: Model, state: server.State) -> None:
        now = time.monotonic()
        watched = self._models.setdefault(model.name, Watched(model.min_workers, BackOff(self.policy)))
        watched.wanted = model.min_workers
        running = state.process.command_lines()
        dead = [number for number, worker in enumerate(model.workers) if not _has_process(worker, running)]
        if not dead:
            watched.dead_since = None
            if now >= watched.next_probe and model.ready():
                self._probe(model.name, watched, state)
            return
        watched.dead_since = watched.dead_since or now
        if now - watched.dead_since > self.policy.dead_worker:
            self._revive(model.name, watched, state, dead[0], "a worker has had no process for too long")

    def _probe(self, name: str, watched: Watched, state: server.State) -> None:
        """A prediction of a tiny clip: READY only says that the model was loaded once."""
        watched.next_probe = time.monotonic() + self.policy.probe
        reason = predicts(state, name, self.policy.probe_deadline)
        if reason is None:
            watched.failed_probes = 0
            return
        watched.failed_probes += 1
        watched.next_probe = time.monotonic() + self.policy.poll
        logger.warning("%s: the probe failed %d times: %s", name, watched.failed_probes, reason)
        if watched.failed_probes >= 2 * self.policy.failed_probes:
            self._restart(state, f"{name} does not predict, with new workers neither")
        elif watched.failed_probes == self.policy.failed_probes:
            self._revive(name, watched, state, 0, "it does not predict")

    def _revive(self, name: str, watched: Watched, state: server.State, keep: int, reason: str) -> None:
        """New workers: TorchServe gives up on a worker for good, but not on a number of workers.

        Args:
            name: of the model.
            watched: what is known of it.
            state: of the server.
            keep: so many workers, from the first, stay.
            reason: for the log.
        """
        if not watched.back_off.due(time.monotonic()):
            return
        logger.warning("%s: %s; %d workers stay, %d are new", name, reason, keep, watched.wanted - keep)
        timeout = self.settings.timeout_seconds
        try:
            set_workers(state.management_url, name, keep, timeout)
        finally:
            # Whatever happened: never leave fewer workers than were asked for.
            try:
                set_workers(state.management_url, name, watched.wanted, timeout)
            finally:
                watched.back_off.tried(time.monotonic())
                watched.dead_since = None
        logger.warning("%s: %d workers READY", name, watched.wanted)

    def _restart(self, state: server.State, reason: str) -> None:
        """A new server with the same archives, addresses and numbers of workers."""
        if not self._restarts.due(time.monotonic()):
            return
        logger.warning("Starting the server anew: %s", reason)
        # Neither the JVM nor orphans of it may hold ports, sockets or memory.
        state.process.terminate(patience_seconds=5.0)
        try:
            # The ports that were decided at the first start stand in the file that was made from it.
            config = self.settings.run_dir / server.CONFIG_FILE
            again = replace(
                self.settings, config=config, models=state.models, port=None, workers=None, supervisor=True
            )
            new = server.start(again)
            for model in get_models(new.management_url, new.models):
                watched = self._models.get(model.name)
                if watched and watched.wanted != len(model.workers):
                    server.scale(new, watched.wanted, model.name, self.settings.timeout_seconds)
        except DeployError:
            # A start that failed takes the state away; without it nobody knows that there is to be a server.
            if server.load_state(self.settings.run_dir) is None:
                state.save(self.settings.run_dir)
            raise
        finally:
            self._restarts.tried(time.monotonic())
            self._heard = time.monotonic()
            for watched in self._models.values():
                watched.dead_since, watched.failed_probes = None, 0
        logger.warning("The server is up again, pid %d", new.process.pid)


def launch(settings: server.Settings) -> None:
    """Start a supervisor that outlives this process."""
    command = [sys.executable, "-m", "deploy", "supervise"]
    command += ["--run-dir", str(settings.run_dir.resolve()), "--log-dir", str(settings.log_dir.resolve())]
    command += [
        "--model-store",
        str(settings.model_store.resolve()),
        "--timeout",
        str(settings.timeout_seconds),
    ]
    project = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        command,
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    save_supervisor(settings.run_dir, ServerProcess.of(process.pid))


def log_to(directory: Path, *, console: bool) -> None:
    """Where the supervisor's log goes: a file that does not grow for ever, and standard error if asked."""
    handlers: list[logging.Handler] = [
        logging.handlers.RotatingFileHandler(directory / LOG_FILE, maxBytes=_LOG_BYTES, backupCount=2)
    ]
    if console:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(
            logging.Formatter(f"%(asctime)s %(levelname)s supervisor {os.getpid()}: %(message)s")
        )
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.info("Watching")


def _has_process(worker: Worker, command_lines: Sequence[str]) -> bool:
    # TorchServe knows a worker's pid only once that has imported torch; its socket is on the command line.
    socket = re.compile(rf"\.ts\.sock\.{re.escape(worker.id)}(?!\d)")
    return any(socket.search(line) for line in command_lines)
