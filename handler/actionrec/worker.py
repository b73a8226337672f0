"""What a worker process and whoever started it tell each other. Without a starter that does, neither happens.

starter -> environment variables -> worker
starter <- one small file        <- worker, once its model is loaded
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

MANAGEMENT_URL = "ACTIONREC_MANAGEMENT_URL"
"""Name of the environment variable with the URL of the server's management API."""
DECODE_THREADS = "ACTIONREC_DECODE_THREADS"
"""Name of that with the number of windows that a worker decodes at once; not set: one per core."""
REPORTS = "ACTIONREC_REPORTS"
"""Name of that with the folder for the workers' reports; not set: nobody wants them."""


@dataclass(frozen=True)
class Report:
    """What a worker says of itself after its model is loaded."""

    device: str
    """Where the model runs: ``cpu``, or ``cuda:1`` for the second of the GPUs that the process may see."""
    decode_threads: int
    """Windows that it decodes at once."""

    def save(self) -> None:
        """Write this process's report for whoever started it, where that was asked for. Raises nothing."""
        folder = os.environ.get(REPORTS)
        if not folder:
            return
        path = _path(folder, os.getpid())
        partial = path.with_suffix(".partial")
        try:
            partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            logger.warning("Whoever started this worker does not get its report: %s", error)

    @classmethod
    def load(cls, folder: Path | str, pid: int) -> Report | None:
        """The report of a process; None where it has written none, or one of another version."""
        try:
            return cls(**json.loads(_path(folder, pid).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def decode_threads() -> int | None:
    """Windows that this process is to decode at once; None: whoever started it does not say."""
    text = os.environ.get(DECODE_THREADS)
    return int(text) if text else None


def _path(folder: Path | str, pid: int) -> Path:
    return Path(folder) / f"{pid}.json"
