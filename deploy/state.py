"""What is written down of a server between its start and its stop, in its run directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .preflight import DeployError
from .processes import ServerProcess

_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading a file raises whose content is not what was written."""


@dataclass(frozen=True)
class State:
    """A started server; kept as JSON in its run directory until it is stopped."""

    process: ServerProcess
    models: tuple[str, ...]
    inference_url: str
    management_url: str
    metrics_url: str
    temp_dir: str
    """The server's own: TorchServe keeps its pid file, unpacked archives and workers' sockets there."""
    log_dir: str

    def predict_url(self, model: str | None = None) -> str:
        """Where clips go."""
        return f"{self.inference_url}/predictions/{model or self.models[0]}"

    def save(self, run_dir: Path) -> None:
        """Write the state; a reader sees the old one or the new one, never half of it."""
        _write(state_file(run_dir), asdict(self))


def load_state(run_dir: Path) -> State | None:
    """The state of the server of this run directory, which need not be alive any more."""
    path = state_file(run_dir)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        process, models = _process(values.pop("process")), values.pop("models")
        texts = [*models, *values.values()]
        if not isinstance(models, list) or not models or not all(isinstance(text, str) for text in texts):
            raise TypeError("its names and addresses are not all text")
        return State(process=process, models=tuple(models), **values)
    except FileNotFoundError:
        return None
    except (OSError, *_DAMAGE) as error:
        raise DeployError(
            f"{path} is damaged ({error})", "stop the server by hand and delete the file"
        ) from error


def running(run_dir: Path) -> State:
    """The state of a server that is alive.

    Raises:
        DeployError: there is none.
    """
    state = load_state(run_dir)
    if state is None or not state.process.alive():
        raise DeployError("no server is running", "start one: make serve")
    return state


def save_supervisor(run_dir: Path, process: ServerProcess) -> None:
    """Write down which process keeps the server up."""
    _write(supervisor_file(run_dir), asdict(process))


def load_supervisor(run_dir: Path) -> ServerProcess | None:
    """The process that keeps, or kept, the server up; None also where the file is damaged."""
    try:
        return _process(json.loads(supervisor_file(run_dir).read_text(encoding="utf-8")))
    except (OSError, *_DAMAGE):
        return None


def _write(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _process(values: dict[str, Any]) -> ServerProcess:
    """From what `asdict` made of it.

    Raises:
        TypeError, ValueError: it is something else.
    """
    process = ServerProcess(**values)
    if type(process.pid) is not int or type(process.session) is not int or process.pid < 1:
        raise ValueError(f"{process.pid!r} is no process")
    return replace(process, created=float(process.created))


def supervisor_file(run_dir: Path) -> Path:
    """Where the supervisor's state is kept."""
    return run_dir / "supervisor.json"


def state_file(run_dir: Path) -> Path:
    """Where the server's state is kept."""
    return run_dir / "server.json"
