"""The state files of a server in its run directory, from its start to its stop."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .preflight import DeployError
from .processes import ServerProcess

DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""The exceptions of reading a file that does not hold what was written."""


@dataclass(frozen=True)
class State:
    """A started server; kept as JSON in its run directory until it is stopped."""

    process: ServerProcess
    models: tuple[str, ...]
    inference_url: str
    management_url: str
    metrics_url: str
    temp_dir: str
    """The server's temporary folder, with TorchServe's pid file, unpacked archives and workers' sockets."""
    log_dir: str
    gpus: str = ""
    """Numbers of the GPUs of its workers, as nvidia-smi counts: ``0,2``, where ``cuda:1`` is GPU 2."""

    @property
    def gpu_numbers(self) -> tuple[int, ...]:
        """`gpus` as numbers."""
        return tuple(int(number) for number in self.gpus.split(",") if number)

    def predict_url(self, model: str | None = None) -> str:
        """The URL for clips of a model; default: the first model."""
        return f"{self.inference_url}/predictions/{model or self.models[0]}"

    def save(self, run_dir: Path) -> None:
        """Write the state. A reader sees the old state or the new one, never half of it."""
        write(state_file(run_dir), asdict(self))


def load_state(run_dir: Path) -> State | None:
    """The state of this run directory's server, which may be dead already; None: there is none.

    Raises:
        DeployError: the file is damaged.
    """
    path = state_file(run_dir)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        process, models = process_of(values.pop("process")), values.pop("models")
        texts = [*models, *values.values()]
        if not isinstance(models, list) or not models or not all(isinstance(text, str) for text in texts):
            raise TypeError("its names and addresses are not all text")
        return State(process=process, models=tuple(models), **values)
    except FileNotFoundError:
        return None
    except (OSError, *DAMAGE) as error:
        raise DeployError(
            f"{path} is damaged ({error})", "stop the server by hand and delete the file"
        ) from error


def running(run_dir: Path) -> State:
    """The state of this run directory's server, which is alive.

    Raises:
        DeployError: no server is running.
    """
    state = load_state(run_dir)
    if state is None or not state.process.alive():
        raise DeployError("no server is running", "start one: make serve")
    return state


def save_supervisor(run_dir: Path, process: ServerProcess) -> None:
    """Record which process keeps the server up."""
    write(supervisor_file(run_dir), asdict(process))


def load_supervisor(run_dir: Path) -> ServerProcess | None:
    """The process that keeps, or kept, the server up; None: there is none, or the file is damaged."""
    try:
        return process_of(json.loads(supervisor_file(run_dir).read_text(encoding="utf-8")))
    except (OSError, *DAMAGE):
        return None


def write(path: Path, values: dict[str, Any]) -> None:
    """Write a state file. A reader sees the old values or the new ones, never half of them."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def process_of(values: dict[str, Any]) -> ServerProcess:
    """The process that `asdict` has written.

    Raises:
        TypeError, ValueError: the values are not a process.
    """
    process = ServerProcess(**values)
    if type(process.pid) is not int or type(process.session) is not int or process.pid < 1:
        raise ValueError(f"{process.pid!r} is no process")
    return replace(process, created=float(process.created))


def supervisor_file(run_dir: Path) -> Path:
    """The path of the supervisor's state."""
    return run_dir / "supervisor.json"


def wishes_file(run_dir: Path) -> Path:
    """The path of what the supervisor is asked for; see `wishes`."""
    return run_dir / "wanted.json"


def state_file(run_dir: Path) -> Path:
    """The path of the server's state."""
    return run_dir / "server.json"
