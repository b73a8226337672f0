"""Keeps one server up: it repairs what TorchServe does not repair itself.

TorchServe restarts a dead worker for some minutes and then never again; nothing restarts TorchServe. The
supervisor checks every second. On an idle machine, with a model that loads in 6 s, each fault is over within
15 s (``tests/faults/outages.py`` measures it):

    fault                           sign                                       seen after   remedy
    a worker is killed              TorchServe sees it itself                  at once      TorchServe's own
    a worker was given up           no process on the worker's socket          5 s          the model is scaled
    a worker, the JVM or the        its state is T                             3 s          SIGCONT, or SIGKILL
    gateway is stopped
    all workers hang                no answer to the probe, no right one to    3 to 8 s     they are killed
                                    others, no CPU time used, for 3 s
    answers are errors, or wrong    3 of the last 6 probes, the first after    3 to 7 s     they are killed
                                    4 s, or at once where others get errors
    the JVM is gone                 its process is                             1 s          a new server
    the JVM hangs                   its management API is silent, no CPU       6 to 9 s     a new server
                                    time used
    the gateway is gone             its process is                             1 s          a new gateway
    the gateway hangs               no answer of it                            15 to 18 s   a new gateway

No fault: a model that loads; a full queue, or a request that takes 100 s, while workers use CPU time or others
get right answers. The supervisor does not see a worker that computes for ever, or hangs beside others that do
not: TorchServe kills it after `responseTimeout` (120 s). Where a prediction takes more than 0.4 s, the probe
comes less often than every 4 s, so that it takes a tenth of the time at most.

If killed workers do not help, the model is scaled down and up; then, if no other model predicts either, a new
server is started. A remedy without effect is repeated at growing intervals. ``supervisor.log`` records it all.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import requests

from . import choices, gateway, logs, server, wishes
from .launch import CONFIG_FILE
from .management import Model, get_models, set_workers
from .patience import BackOff, Policy
from .preflight import DeployError
from .processes import ServerProcess, reap_orphans
from .pulse import Pulse
from .sizing import kept
from .state import load_supervisor, save_supervisor, state_file
from .watched import Watched, still_stopped

__all__ = ["LOG_FILE", "BackOff", "Policy", "Supervisor", "launch", "log_to"]

LOG_FILE = "supervisor.log"
_LOG_BYTES = 1_000_000
_LATE_SECONDS = 2.0
"""Seconds by which a sleep may be late; more means that this process or the machine stood still."""

logger = logging.getLogger(__name__)


@dataclass
class Supervisor:
    """Watches the server of one run directory.

    Args:
        settings: the server's own; a new server is started with them, on the same addresses.
        policy: how patient to be.
        identity: the process that this runs in, which `stop` must find; None where it need not.
        adopts: whether this process has called `adopt_orphans`.
    """

    settings: server.Settings
    policy: Policy = field(default_factory=Policy)
    identity: ServerProcess | None = None
    adopts: bool = False
    _state: server.State | None = None
    """The last state that could be read."""
    _models: dict[str, Watched] = field(default_factory=dict)
    _jvm: Pulse | None = None
    _heard: float = field(default_factory=time.monotonic)
    _silent_looks: int = 0
    _restarts: BackOff = field(init=False)
    _gateway: gateway.Keeper = field(init=False)

    def __post_init__(self) -> None:
        self._restarts = BackOff(self.policy)
        self._gateway = gateway.Keeper(self.settings.run_dir, self.policy)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Watch until somebody stops the server, or `until` returns true. Nothing else ends it."""
        while not until():
            try:
                state = self._load()
                if state is None:
                    logger.info("The server was stopped; the supervisor ends")
                    return
                self._state = state
                self._gateway.look()
                name = wishes.wanted(self.settings.run_dir)
                if name and self._restarts.due(time.monotonic()):
                    wishes.serve(name, state, self.settings, self._restart)
                    continue
                self.look(state)
            except (DeployError, requests.RequestException) as error:
                logger.error("A check or a remedy failed: %s", error)
            except Exception:
                logger.exception("A check failed; the next one follows")
            self._rest()

    def look(self, state: server.State) -> None:
        """Check the server once, and repair it where needed."""
        jvm = state.process.jvm()
        if jvm is None:
            self._restart(state, "the JVM is gone")
            return
        if self._jvm is None or self._jvm.process != jvm:
            self._jvm = Pulse(jvm)
        self._jvm.feel()
        if self._jvm.stopped_since is not None:
            self._heard = time.monotonic()
            if still_stopped(self._jvm, self.policy, "the JVM"):
                self._restart(state, "the JVM is stopped", patience_seconds=0.0)
            return
        try:
            models = get_models(state.management_url, state.models, self.policy.call)
        except requests.RequestException as error:
            now = time.monotonic()
            idle = now - self._jvm.worked > self.policy.silence
            silent = now - self._heard
            self._silent_looks += 1
            limit = self.policy.silence if idle else self.policy.silence_at_work
            if silent > limit and self._silent_looks >= self.policy.looks:
                reason = f"no answer from the management API for {silent:.0f} s ({error})"
                self._restart(state, reason, patience_seconds=0.0)
            return
        self._heard, self._silent_looks = time.monotonic(), 0
        for model in models:
            self._look_at(model, state)

    def _load(self) -> server.State | None:
        """The state in the file, None after a stop; a damaged file is replaced by the last good state."""
        run_dir = self.settings.run_dir
        try:
            state = server.load_state(run_dir)
        except DeployError as error:
            if self._state is None:
                raise
            logger.error("%s; it is written anew", error.message)
            state = self._state
            state.save(run_dir)
        if state and self.identity and load_supervisor(run_dir) is None:
            logger.error("The file that names the supervisor is damaged or gone; it is written anew")
            save_supervisor(run_dir, self.identity)
        return state

    def _rest(self) -> None:
        began = time.monotonic()
        time.sleep(self.policy.poll)
        if self.adopts:
            reap_orphans()
        now = time.monotonic()
        if now - began > self.policy.poll + _LATE_SECONDS:
            logger.warning("Stood still for %.0f s; faults in that time are ignored", now - began)
            self._heard = now
            self._gateway.forgive()
            for watched in self._models.values():
                watched.forgive()
            if self._jvm:
                self._jvm.forgive()

    def _look_at(self, model: Model, state: server.State) -> None:
        watched = self._models.get(model.name)
        if watched is None:
            watched = self._models[model.name] = Watched(model.name, self.policy, model.min_workers)
        if not watched.short:
            watched.wanted = model.min_workers
        dead = watched.workers(model, state)
        if dead:
            self._scale(watched, state, dead[0], "a worker has had no process for too long")
        elif watched.short:
            self._scale(watched, state, len(model.workers), "it has fewer workers than it had")
        elif reason := watched.fault(model, state):
            self._mend(watched, state, reason)

    def _mend(self, watched: Watched, state: server.State, reason: str) -> None:
        """Give a model new workers; where they did not help, use the next remedy."""
        others = any(other.well for other in self._models.values() if other is not watched)
        if watched.remedies == 0:
            logger.warning("%s: %s; its workers are killed", watched.name, reason)
            watched.kill_workers()
            watched.begin_anew()
            watched.remedies = 1
        elif watched.remedies == 1 or others:
            self._scale(watched, state, 0, reason)
        else:
            self._restart(state, f"{watched.name}: new workers did not help: {reason}")

    def _scale(self, watched: Watched, state: server.State, keep: int, reason: str) -> None:
        """Give a model new workers by scaling, since TorchServe never retries a worker that it has given up.

        Args:
            watched: the model.
            state: the server's state.
            keep: how many workers stay, counted from the first.
            reason: for the log.
        """
        if not watched.back_off.due(time.monotonic()):
            return
        name, wanted, timeout = watched.name, watched.wanted, self.settings.timeout_seconds
        keep = kept(wanted, keep, len(state.gpu_numbers))
        logger.warning("%s: %s; %d workers stay, %d are new", name, reason, keep, wanted - keep)
        watched.short = True
        watched.remedies += 1
        try:
            set_workers(state.management_url, name, keep, timeout)
        finally:
            # Whatever happened: leave no fewer workers than were asked for.
            try:
                set_workers(state.management_url, name, wanted, timeout)
                watched.short = False
            finally:
                watched.back_off.tried(time.monotonic())
                watched.begin_anew()
        logger.warning("%s: %d workers READY", name, wanted)

    def _restart(self, state: server.State, reason: str, patience_seconds: float = 5.0) -> None:
        """Start a new server with the same archives, addresses and numbers of workers.

        Args:
            state: the old server's state.
            reason: for the log.
            patience_seconds: time that the JVM has to end by itself.
        """
        if not self._restarts.due(time.monotonic()):
            return
        logger.warning("Starting the server anew: %s", reason)
        # Neither the JVM nor its orphans may keep ports, sockets or memory.
        state.process.terminate(patience_seconds)
        try:
            # The file made at the first start has the ports that were chosen then.
            config = self.settings.run_dir / CONFIG_FILE
            again = replace(self.settings, config=config, models=state.models, port=None, supervisor=True)
            new = server.start(again)
            self._state = new
            for model in get_models(new.management_url, new.models):
                watched = self._models.get(model.name)
                if watched and watched.wanted != len(model.workers):
                    server.scale(new, watched.wanted, model.name, self.settings.timeout_seconds)
        except BaseException:
            # A failed start removes the state; without it nobody knows that there should be a server.
            if not state_file(self.settings.run_dir).exists():
                state.save(self.settings.run_dir)
            raise
        finally:
            self._restarts.tried(time.monotonic())
            self._heard, self._silent_looks = time.monotonic(), 0
            for watched in self._models.values():
                watched.short, watched.remedies = False, 0
                watched.begin_anew()
        logger.warning("The server is up again, pid %d", new.process.pid)


def launch(settings: server.Settings) -> None:
    """Start a supervisor that outlives this process. Raises DeployError where it ended at once."""
    command = [sys.executable, "-m", "deploy", "supervise"]
    command += ["--run-dir", str(settings.run_dir.resolve()), "--log-dir", str(settings.log_dir.resolve())]
    command += [
        "--model-store",
        str(settings.model_store.resolve()),
        "--timeout",
        str(settings.timeout_seconds),
        *choices.as_arguments(settings),
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
    try:
        save_supervisor(settings.run_dir, ServerProcess.of(process.pid))
    except (psutil.Error, ProcessLookupError) as error:
        log = settings.log_dir / LOG_FILE
        raise DeployError("the server runs, but its supervisor ended at once", f"see {log}") from error


def log_to(directory: Path, *, console: bool) -> None:
    """Send the supervisor's log to a file of bounded size, and to standard error if asked."""
    handlers: list[logging.Handler] = [
        logging.handlers.RotatingFileHandler(directory / LOG_FILE, maxBytes=_LOG_BYTES, backupCount=2)
    ]
    if console:
        handlers.append(logging.StreamHandler())
    package = logging.getLogger(__package__)
    for handler in handlers:
        text = logging.Formatter(f"%(asctime)s %(levelname)s supervisor {os.getpid()}: %(message)s")
        handler.setFormatter(text)
        package.addHandler(handler)
    if console and logs.as_json():
        handlers[-1].setFormatter(logs.JsonFormatter())
    package.setLevel(logging.INFO)
    logger.info("Watching")
