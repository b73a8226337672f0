"""Why a worker died while it loaded its model, read from TorchServe's logs.

TorchServe says only "Worker died" and tries again, for minutes. The true cause is a Python traceback further up
in the worker's own log. Where the handler's module cannot be imported, a second and misleading traceback
(``No module named 'ts.torch_handler.<x>'``) follows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

# Lines of TorchServe's log; the group is the name of the model or its archive.
_FAILURES = re.compile(r"Load model failed: (\S+), error|Failed to load model: (\S+)")
_NEXT_EXCEPTION = "During handling of the above exception, another exception occurred:"
_MISLEADING = "No module named 'ts.torch_handler."
_FRAME = re.compile(r'  File "(.+)", line \d+')
# Frames that every failure has: TorchServe's way to the handler, and Python's import.
_NOISE = ("<frozen importlib", "/importlib/__init__.py", "/ts/model_loader.py", "/ts/model_service_worker.py")
_MAX_LINES = 14


@dataclass
class LogWatch:
    """Looks for failures in the lines that a server's logs have gained since this object was made."""

    directory: Path
    _offsets: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("ts_log.log", "model_log.log"):
            path = self.directory / name
            self._offsets[name] = path.stat().st_size if path.exists() else 0

    def failed_model(self) -> str | None:
        """Name of a model that could not be loaded; None: there is none."""
        found = _FAILURES.search(self._new("ts_log.log"))
        return (found[1] or found[2]) if found else None

    def cause(self, model: str) -> tuple[str, list[str]]:
        """The cause in one line, and the lines of the log around it."""
        lines = [line.partition(" MODEL_LOG - ") for line in self._new("model_log.log").splitlines()]
        return true_cause([text for worker, _, text in lines if f"-{model}_" in worker])

    def tail(self) -> list[str]:
        """The last new lines of the server's own log."""
        return self._new("ts_log.log").splitlines()[-_MAX_LINES:]

    def _new(self, name: str) -> str:
        path = self.directory / name
        if not path.exists():
            return ""
        with path.open("rb") as log:
            # A file that has become shorter was rolled over: all of it is new.
            log.seek(self._offsets[name] if path.stat().st_size >= self._offsets[name] else 0)
            return log.read().decode("utf-8", errors="replace")


def true_cause(lines: list[str]) -> tuple[str, list[str]]:
    """The cause of a worker's death.

    Args:
        lines: output of the workers of one model, without the log's prefixes.

    Returns:
        The exception's line, and the traceback above it without the frames that every failure has.
    """
    starts = [n for n, line in enumerate(lines) if line.startswith("s_name_part0=")]
    first_attempt = lines[: starts[1]] if len(starts) > 1 else lines
    while first_attempt and not first_attempt[0].startswith("Traceback "):
        first_attempt = first_attempt[1:]
    shown = [line for line in first_attempt if line.strip(" ^~")]
    if not shown:
        return "its worker ended without an error of its own; was it killed, for memory?", lines[-_MAX_LINES:]
    if _NEXT_EXCEPTION in shown:
        last = len(shown) - 1 - shown[::-1].index(_NEXT_EXCEPTION)
        if any(_MISLEADING in line for line in shown[last:]):
            shown = shown[:last]
    # The exception follows the last frame and its line of code; its message may have several lines.
    frames = [n for n, line in enumerate(shown) if _FRAME.match(line)]
    after = range(frames[-1] + 1 if frames else 0, len(shown))
    headline = next((n for n in after if not shown[n].startswith("    ")), len(shown) - 1)
    return shown[headline], _without_noise(shown[:headline] + shown[headline + 1 :])[-_MAX_LINES:]


def _without_noise(traceback: list[str]) -> list[str]:
    kept, noise = [], False
    for line in traceback:
        if frame := _FRAME.match(line):
            noise = any(part in frame[1] for part in _NOISE)
        elif not line.startswith("    "):
            noise = False
        if not noise:
            kept.append(line)
    return kept
