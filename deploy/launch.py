"""Starts the JVM with TorchServe's own launcher, and removes what a server leaves behind."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from actionrec import worker

from . import gateway
from .config import ServerConfig
from .host import NUMBERED, VISIBLE
from .preflight import DeployError
from .processes import ServerProcess
from .sizing import Host, Sizing
from .state import State, state_file

CONFIG_FILE = "config.properties"
"""Name of the configuration in the run directory, which has the addresses of this start."""
STOP_PATIENCE_SECONDS = 20.0
"""Seconds that processes have to end by themselves."""
BRIEF_SPIN = {"GOMP_SPINCOUNT": "5000"}
"""Environment variables with which a model's threads spin briefly and then sleep when they wait for each other.
By default they spin for long, and one worker's threads take the cores from another's: two workers with a
SlowFast R50 took 1.2 times as long (benchmarks/process.py)."""

_TEMP_PREFIX = "actionrec-"
_LOGGING = Path(__file__).parent / "log4j2.xml"
_REPORTS = "reports"
_NVIDIA_SMI = """#!/bin/sh
# Whenever TorchServe is asked for a model's state, which is every second, it runs nvidia-smi for each worker.
# Nobody reads those figures, and they may take longer than a second. All else goes to the real program.
case "$*" in
    "-i "*" --query-gpu=utilization.gpu,utilization.memory,memory.used --format=csv") ;;
    *) {otherwise} ;;
esac
"""


@dataclass(frozen=True)
class Launch:
    """What a JVM is started with."""

    config: ServerConfig
    source: Path
    """The file that the configuration was made from."""
    archives: Sequence[Path]
    """All of one directory."""
    run_dir: Path
    log_dir: Path
    host: Host
    sizing: Sizing
    python: Path = Path(sys.executable)
    """The interpreter of the server and its workers."""
    console: bool = False
    """Whether the server's log also goes to standard output."""

    def start(self) -> State:
        """Start the JVM in a session of its own; returns when it runs, before any model is loaded.

        Raises:
            DeployError: it did not start; nothing is left of it.
        """
        temp_dir = Path(tempfile.mkdtemp(prefix=_TEMP_PREFIX))
        jvm_log = self.log_dir / "jvm.log"  # what the JVM prints before, or instead of, its own logs
        with jvm_log.open("w", encoding="utf-8") as errors:
            launcher = subprocess.Popen(
                self._command(),
                env=self._environment(temp_dir),
                cwd=temp_dir,  # the JVM's class path begins with it
                stdin=subprocess.DEVNULL,
                stdout=None if self.console else subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        try:
            launcher.wait()  # returns 0 whatever happens; the JVM's pid is in a file
            process = _launched(temp_dir)
            if process is None:
                details = jvm_log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
                raise DeployError("TorchServe did not start", f"see {jvm_log}", details)
            state = State(
                process,
                tuple(path.stem for path in self.archives),
                self.config.inference_url,
                self.config.management_url,
                self.config.metrics_url,
                str(temp_dir),
                str(self.log_dir),
                ",".join(str(gpu.number) for gpu in self.host.gpus),
            )
            state.save(self.run_dir)
        except BaseException:  # Ctrl-C here must not leave a JVM that no state knows
            launcher.wait()
            if orphan := _launched(temp_dir):
                orphan.terminate(STOP_PATIENCE_SECONDS)
            shutil.rmtree(temp_dir, ignore_errors=True)
            raise
        return state

    def _command(self) -> list[str]:
        rendered = self.run_dir / CONFIG_FILE
        rendered.write_text(f"# made from {self.source.resolve()}\n{self.config.text}", encoding="utf-8")
        command = [str(self.python), "-m", "ts.model_server", "--start", "--ncs", "--ts-config", str(rendered)]
        command += ["--model-store", str(self.archives[0].parent.resolve())]
        command += ["--models", *(f"{path.stem}={path.name}" for path in self.archives)]
        return [*command, "--log-config", str(_LOGGING)]

    def _environment(self, temp_dir: Path) -> dict[str, str]:
        """The environment of the JVM, which its workers inherit."""
        # A PYTHONPATH would come before the archive, and the repository's code would be served instead. TS_...
        # variables would override our configuration. The gateway's have secrets.
        others = ("TS_", *gateway.SETTINGS)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith(others)}
        environment |= {"TEMP": str(temp_dir), "TMPDIR": str(temp_dir)}
        environment |= {"LOG_LOCATION": str(self.log_dir), "METRICS_LOCATION": str(self.log_dir)}
        environment |= {"CONSOLE_LEVEL": "info" if self.console else "off"}
        # With this a worker knows whether requests wait while it is busy with a long one.
        environment |= {worker.MANAGEMENT_URL: self.config.management_url}
        reports = reports_of(temp_dir)
        reports.mkdir()
        environment |= {worker.REPORTS: str(reports)}
        if self.sizing.decode_threads is not None:
            environment |= {worker.DECODE_THREADS: str(self.sizing.decode_threads)}
        if "OMP_WAIT_POLICY" not in environment:
            environment = BRIEF_SPIN | environment
        return environment | self._for_gpus(temp_dir, environment)

    def _for_gpus(self, temp_dir: Path, environment: Mapping[str, str]) -> dict[str, str]:
        """What the GPUs need. TorchServe counts them by `VISIBLE`, or by nvidia-smi where that is not set."""
        changed = {}
        if self.host.gpus:
            changed = {VISIBLE: ",".join(str(gpu.number) for gpu in self.host.gpus), **NUMBERED}
        path = shutil.which("nvidia-smi")
        if path or self.host.gpus:
            programs = temp_dir / "bin"
            programs.mkdir()
            stand_in = programs / "nvidia-smi"
            otherwise = f'exec {shlex.quote(path)} "$@"' if path else "exit 127"
            stand_in.write_text(_NVIDIA_SMI.format(otherwise=otherwise), encoding="utf-8")
            stand_in.chmod(0o755)
            changed |= {"PATH": f"{programs}{os.pathsep}{environment.get('PATH', os.defpath)}"}
        return changed


def reports_of(temp_dir: Path | str) -> Path:
    """The folder for the reports of a server's workers.

    Args:
        temp_dir: the server's temporary folder.
    """
    return Path(temp_dir) / _REPORTS


def clear(state: State, run_dir: Path) -> None:
    """Remove what a server leaves behind: its temporary folder and its state."""
    # The path comes from a file, which may be damaged: only folders that were made for a server are removed.
    if Path(state.temp_dir).name.startswith(_TEMP_PREFIX):
        shutil.rmtree(state.temp_dir, ignore_errors=True)
    state_file(run_dir).unlink(missing_ok=True)


def _launched(temp_dir: Path) -> ServerProcess | None:
    try:
        return ServerProcess.of(int((temp_dir / ".model_server.pid").read_text()))
    except (OSError, ValueError, psutil.Error):
        return None
