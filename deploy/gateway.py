"""The gateway beside the server: a process of its own, started, kept and drained here, and never imported.

Its settings come from the environment (``GATEWAY_TOKENS``, ``FETCH``, ``DATABASE_URL``), which it inherits.
What only this package knows is given as arguments: where the server is, and its limits.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import requests

from . import canary
from .config import ServerConfig
from .nginx import QUEUE_SECONDS
from .patience import BackOff, Policy
from .preflight import DeployError
from .processes import ServerProcess
from .pulse import Pulse
from .state import DAMAGE, process_of, wishes_file, write
from .watched import still_stopped

__all__ = ["SETTINGS", "Gateway", "Keeper", "answers", "load", "start", "stop"]

SETTINGS = ("GATEWAY_", "DATABASE_URL", "FETCH")
"""How the names of its settings in the environment begin. They are none of TorchServe's business."""
_RUN_DIR = "GATEWAY_RUN_DIR"
"""The gateway's own variable for where its jobs lie: they may have to outlive the server's run directory."""
_LOG_FILE = "gateway.log"
_START_FILE = "gateway-start.log"
"""What it prints before, or instead of, its own log."""
_START_SECONDS = 60.0
"""From its start until it listens: some seconds of imports, and jobs that are taken up again."""
_SPARE_SECONDS = 5.0
"""To end, after the last answer."""
_PROJECT = Path(__file__).resolve().parent.parent

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gateway:
    """A started gateway; kept as JSON in the run directory until it is stopped."""

    process: ServerProcess
    url: str
    command: tuple[str, ...]
    """What it was started with, and is started with again."""
    log_dir: str
    console: bool
    """Whether its log goes to standard error, and to no file."""


def start(
    config: ServerConfig,
    run_dir: Path,
    log_dir: Path,
    *,
    port: int | None,
    python: Path,
    console: bool,
    model_store: Path | None = None,
    supervised: bool = False,
) -> Gateway:
    """Start the gateway of a server; returns when it listens.

    Args:
        config: the server's.
        run_dir: folder of the server's state.
        log_dir: folder of its logs.
        port: to listen on; 0: a free one; None: the gateway's own.
        python: the interpreter.
        console: whether its log goes to standard error.
        model_store: folder of the server's archives; None: it need not know.
        supervised: whether the server has a supervisor, which can be asked for one more archive.

    Raises:
        DeployError: it does not start.
    """
    stop(run_dir, 0.0)  # one that outlived its server would keep the port
    wishes_file(run_dir).unlink(missing_ok=True)  # of another life
    command = [str(python), "-m", "actionrec_gateway"]
    command += ["--engine", config.inference_url, "--management", config.management_url]
    command += ["--body-bytes", str(config.max_request_bytes)]
    command += ["--answer-seconds", str(config.response_seconds + QUEUE_SECONDS)]
    if _RUN_DIR not in os.environ:
        command += ["--run-dir", str(run_dir.resolve() / "gateway")]
    command += ["--model-store", str(model_store.resolve())] if model_store else []
    command += ["--wishes", str(wishes_file(run_dir.resolve()))] if supervised else []
    command += ["--canary", str(run_dir.resolve() / canary.FILE)]
    command += [] if console else ["--log-file", str(log_dir.resolve() / _LOG_FILE)]
    command += [] if port is None else ["--port", str(port)]
    return _begin(command, run_dir, log_dir, console=console)


def stop(run_dir: Path, drain_seconds: float) -> None:
    """Stop the gateway of this run directory, if there is one; requests in flight are answered first.

    Args:
        run_dir: folder of the server's state.
        drain_seconds: the longest wait for these answers.
    """
    if gateway := load(run_dir):
        gateway.process.end(drain_seconds + _SPARE_SECONDS if drain_seconds else 0.0)
    _file(run_dir).unlink(missing_ok=True)


def load(run_dir: Path) -> Gateway | None:
    """The gateway of this run directory, which may be dead; None: there is none, or the file is damaged."""
    try:
        values = json.loads(_file(run_dir).read_text(encoding="utf-8"))
        process, command = process_of(values.pop("process")), tuple(map(str, values.pop("command")))
        return Gateway(process, command=command, **values)
    except (OSError, *DAMAGE):
        return None


def answers(gateway: Gateway, timeout_seconds: float) -> bool:
    """Whether the gateway itself answers, whatever the server does."""
    try:
        return requests.get(f"{gateway.url}/health", timeout=timeout_seconds).ok
    except requests.RequestException:
        return False


@dataclass
class Keeper:
    """Keeps the gateway of one run directory up: one that is gone or silent is started again at its address.

    Args:
        run_dir: folder of the server's state.
        policy: how patient to be.
    """

    run_dir: Path
    policy: Policy
    _back_off: BackOff = field(init=False)
    _pulse: Pulse | None = None
    _heard: float = field(default_factory=time.monotonic)
    _silent_looks: int = 0

    def __post_init__(self) -> None:
        self._back_off = BackOff(self.policy)

    def look(self) -> None:
        """Check the gateway once, and start it again where needed.

        Raises:
            DeployError: it does not start.
        """
        gateway = load(self.run_dir)
        reason = self._fault(gateway) if gateway else ""
        if gateway is None or not reason or not self._back_off.due(time.monotonic()):
            return
        logger.warning("Starting the gateway anew: %s", reason)
        try:
            gateway.process.end(0.0)
            new = _begin(list(gateway.command), self.run_dir, Path(gateway.log_dir), console=gateway.console)
        finally:
            self._back_off.tried(time.monotonic())
            self.forgive()
        logger.warning("The gateway is up again, pid %d", new.process.pid)

    def forgive(self) -> None:
        """Draw no conclusion from the time until now."""
        self._heard, self._silent_looks = time.monotonic(), 0
        if self._pulse:
            self._pulse.forgive()

    def _fault(self, gateway: Gateway) -> str:
        """Why it must be started again; empty while it answers, or has been silent for a short time only."""
        process = gateway.process.jvm()
        if process is None:
            return "it is gone"
        if self._pulse is None or self._pulse.process != process:
            self._pulse = Pulse(process)
        self._pulse.feel()
        if still_stopped(self._pulse, self.policy, "the gateway"):
            return "it is stopped"
        if self._pulse.stopped_since is not None or answers(gateway, self.policy.call):
            self._heard, self._silent_looks = time.monotonic(), 0
            return ""
        self._silent_looks += 1
        seconds = time.monotonic() - self._heard
        silent = seconds > self.policy.silent_gateway and self._silent_looks >= self.policy.looks
        return f"no answer for {seconds:.0f} s" if silent else ""


def _begin(command: list[str], run_dir: Path, log_dir: Path, *, console: bool) -> Gateway:
    log = log_dir / _START_FILE
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            cwd=_PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if console else errors,
            start_new_session=True,
        )
    try:
        url = _address(process)
        # At the next start it takes the port that it has now, and no other.
        port = url.rsplit(":", 1)[1]
        again = _without_port(command)
        gateway = Gateway(
            ServerProcess.of(process.pid), url, (*again, "--port", port), str(log_dir.resolve()), console
        )
        write(_file(run_dir), asdict(gateway))
    except (ValueError, KeyError, psutil.Error, ProcessLookupError) as error:
        process.kill()
        process.wait()
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [str(error)]
        missing = "install it: pip install '.[gateway]', or " if "ModuleNotFoundError" in said[-1] else ""
        raise DeployError(
            f"the gateway did not start: {said[-1].removeprefix('error: ')}",
            f"{missing}leave it out: GATEWAY=0",
        ) from error
    except BaseException:  # Ctrl-C here must not leave a process that no state knows
        process.kill()
        process.wait()
        raise
    return gateway


def _address(process: subprocess.Popen[bytes]) -> str:
    """The address that the gateway prints when it listens.

    Raises:
        ValueError, KeyError: it ended, or the time is over.
    """
    assert process.stdout is not None
    with process.stdout as printed, selectors.DefaultSelector() as ready:
        ready.register(printed, selectors.EVENT_READ)
        if not ready.select(_START_SECONDS):
            raise ValueError(f"no address after {_START_SECONDS:g} s")
        return str(json.loads(printed.readline())["url"])


def _without_port(command: list[str]) -> list[str]:
    if "--port" not in command:
        return command
    place = command.index("--port")
    return command[:place] + command[place + 2 :]


def _file(run_dir: Path) -> Path:
    return run_dir / "gateway.json"
