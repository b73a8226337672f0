"""Starts, scales and stops one TorchServe server; its state is a file in its run directory."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import requests

from . import archives, gateway
from .cause import LogWatch
from .checksums import check_archives
from .config import ServerConfig, load_config
from .drain import drain
from .host import look
from .launch import STOP_PATIENCE_SECONDS, Launch, clear
from .management import Model, get_models, set_workers
from .preflight import DeployError, check_java, check_ports, check_temporary_space, find_archives
from .processes import wait_gone
from .sizing import decide, kept
from .state import State, load_state, load_supervisor, running, supervisor_file

__all__ = [
    "DRAIN_SECONDS",
    "Settings",
    "State",
    "Stopped",
    "load_state",
    "running",
    "scale",
    "start",
    "stop",
    "wait_ready",
]

_POLL_SECONDS = 0.25
DRAIN_SECONDS = 60.0
"""Seconds that `stop` waits for requests in flight: half of the `responseTimeout` of the archives."""


@dataclass(frozen=True)
class Settings:
    """The settings of a server's start."""

    model_store: Path = Path("model_store")
    models: tuple[str, ...] = ()
    """Names of models; empty: all in the store."""
    config: Path = Path("config.properties")
    run_dir: Path = Path("run")
    log_dir: Path = Path("logs")
    port: int | None = None
    """Inference port; see `load_config`."""
    workers: int | None = None
    """Workers of each model; None: as many as its archive says, or suit this host where it does not."""
    batch: int | None = None
    """Requests in one batch, for archives that leave it to the host; None: what suits it."""
    decode_threads: int | None = None
    """Windows that each worker decodes at once; None: what suits this host."""
    device_ids: tuple[int, ...] | None = None
    """Numbers of the GPUs to use, as nvidia-smi counts; None: all."""
    timeout_seconds: float = 300.0
    """Seconds until all workers must be READY."""
    python: Path = Path(sys.executable)
    """The interpreter of the server and its workers."""
    supervisor: bool = False
    """Whether the server's supervisor starts it; anybody else must stop the supervisor first."""
    console: bool = False
    """Whether the server's log also goes to standard output, as containers want it."""


@dataclass(frozen=True)
class Stopped:
    """How a server ended."""

    unanswered: int
    """Connections that still waited for an answer at the end of the drain."""


def start(settings: Settings) -> State:
    """Start a server; returns when every worker of every model is READY.

    Raises:
        DeployError: it cannot start, or a worker died while it loaded; then no process is left.
    """
    run_dir, log_dir = settings.run_dir.resolve(), settings.log_dir.resolve()
    for directory in (run_dir, log_dir):
        directory.mkdir(parents=True, exist_ok=True)
    with _only_one(run_dir):
        state = load_state(run_dir)
        if state and state.process.alive():
            raise DeployError(
                f"a server is already running at {state.inference_url} (pid {state.process.pid})",
                "stop it first: make stop",
            )
        keeper = load_supervisor(run_dir)
        if keeper and keeper.alive() and not settings.supervisor:
            raise DeployError(
                f"a supervisor (pid {keeper.pid}) is restarting its server",
                "stop it first: make stop",
            )
        if state:
            clear(state, run_dir)  # it died without being stopped
        config = load_config(settings.config, settings.port)
        check_java()
        paths = find_archives(settings.model_store, settings.models)
        check_ports(config.host, config.ports)
        check_temporary_space(paths)
        check_archives(paths)
        watch = LogWatch(log_dir)
        state = _planned(settings, config, paths).start()
    try:
        wait_ready(state, settings.timeout_seconds, watch)
        if settings.workers is not None:
            scale(state, settings.workers, timeout_seconds=settings.timeout_seconds)
    except BaseException:  # Ctrl-C too: half a server is worse than none
        state.process.terminate(STOP_PATIENCE_SECONDS)
        clear(state, run_dir)
        raise
    return state


def wait_ready(
    state: State,
    timeout_seconds: float,
    watch: LogWatch | None = None,
    models: Sequence[str] = (),
    workers: int | None = None,
) -> list[Model]:
    """Wait until every worker is READY; returns the models.

    Args:
        state: the server's state.
        timeout_seconds: the longest wait.
        watch: makes it fail at once when the log says that a model could not be loaded.
        models: names of models; empty: all.
        workers: exact number of workers of each model; None: at least one, and at least the server's setting.

    Raises:
        DeployError: the server ended, a model could not be loaded, or the time is over.
    """
    names = models or state.models
    deadline = time.monotonic() + timeout_seconds
    while True:
        if not state.process.alive():
            raise DeployError(
                "TorchServe ended by itself", f"see {state.log_dir}", watch.tail() if watch else ()
            )
        if watch and (failed := watch.failed_model()):
            time.sleep(_POLL_SECONDS)  # the worker's last lines are still on their way to the log
            cause, details = watch.cause(failed)
            raise DeployError(f"{failed} could not be loaded: {cause}", details=details)
        try:
            seen = get_models(state.management_url, names)
        except requests.RequestException:
            seen = []  # not up yet
        if len(seen) == len(names) and all(model.ready(workers) for model in seen):
            return seen
        if time.monotonic() > deadline:
            waiting = sorted(set(names) - {model.name for model in seen if model.ready(workers)})
            raise DeployError(
                f"{', '.join(waiting)} not READY after {timeout_seconds:g} s",
                f"see {state.log_dir}/model_log.log",
            )
        time.sleep(_POLL_SECONDS)


def scale(state: State, workers: int, model: str | None = None, timeout_seconds: float = 300.0) -> None:
    """Give a model, or all, exactly so many workers; returns when these are READY and all others are gone.

    With several GPUs a few more are stopped and started anew, so that the GPUs have equally many; see `kept`.
    """
    if workers < 0:
        raise DeployError(f"{workers} is no number of workers", "give a number from 0: make scale WORKERS=2")
    if model and model not in state.models:
        raise DeployError(
            f"the server has no model {model} (it has: {', '.join(state.models)})", "name one of those"
        )
    watch = LogWatch(Path(state.log_dir))
    for name in [model] if model else state.models:
        models = get_models(state.management_url, [name])
        before = _worker_processes(models)
        even = kept(sum(len(each.workers) for each in models), workers, len(state.gpu_numbers))
        if even != workers:
            set_workers(state.management_url, name, even, timeout_seconds)
        set_workers(state.management_url, name, workers, timeout_seconds)
        after = _worker_processes(wait_ready(state, timeout_seconds, watch, [name], workers))
        # TorchServe takes a worker off its list before its process ends.
        wait_gone([process for process in before if process not in after], STOP_PATIENCE_SECONDS)


def stop(run_dir: Path, drain_seconds: float = DRAIN_SECONDS) -> Stopped | None:
    """Stop the server of this run directory; returns when all its processes are gone.

    New connections are refused at once; requests that are in flight are answered first, those of its gateway
    before all others.

    Args:
        run_dir: folder of the server's state.
        drain_seconds: the longest wait for these answers; 0 drops the requests in flight.

    Returns:
        How it ended; None where no server was running.
    """
    before = load_state(run_dir)
    was_alive = before is not None and before.process.alive()
    # The supervisor first, or it would restart the server. One in the foreground stops both.
    keeper = load_supervisor(run_dir)
    if keeper and keeper.pid != os.getpid():
        keeper.end(drain_seconds + STOP_PATIENCE_SECONDS)
    supervisor_file(run_dir).unlink(missing_ok=True)
    # What asks goes before what is asked. Both have the same time.
    deadline = time.monotonic() + drain_seconds
    gateway.stop(run_dir, drain_seconds)
    state = load_state(run_dir)
    unanswered = 0
    if state:
        if state.process.alive() and drain_seconds > 0:
            # Before the signal: SIGTERM drops the requests that are in flight.
            port = urlsplit(state.inference_url).port or 80
            unanswered = drain(state.process.pid, port, max(1.0, deadline - time.monotonic()))
        state.process.terminate(STOP_PATIENCE_SECONDS)
        clear(state, run_dir)
    return Stopped(unanswered) if was_alive else None


def _worker_processes(models: Sequence[Model]) -> list[psutil.Process]:
    processes = (worker.process() for model in models for worker in model.workers)
    return [process for process in processes if process]


def _planned(settings: Settings, config: ServerConfig, paths: Sequence[Path]) -> Launch:
    """What the server is started with, from what the archives leave to the host and what the host has."""
    host = look(settings.python, settings.device_ids)
    host = replace(host, gpus=host.gpus[: config.most_gpus])
    served = [archives.read(path) for path in paths]
    if settings.batch is not None:
        archives.check_batch(served, settings.batch)
    left_open = [archive for archive in served if archive.left_open]
    sizing = decide(
        host if left_open else replace(host, gpus=()),
        max(1, len(left_open)),
        workers=settings.workers,
        batch=settings.batch,
        decode_threads=settings.decode_threads,
    )
    return Launch(
        config=config.with_defaults(archives.properties(served, sizing)),
        source=settings.config,
        archives=paths,
        run_dir=settings.run_dir.resolve(),
        log_dir=settings.log_dir.resolve(),
        host=host,
        sizing=sizing,
        python=settings.python,
        console=settings.console,
    )


@contextmanager
def _only_one(run_dir: Path) -> Iterator[None]:
    """Hold the run directory's lock; of two starts at once, the second is refused."""
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DeployError("another start is under way in this run directory", "wait for it") from error
        yield
