"""What goes to the terminal, or to what collects a container's output: text, or JSON (``ACTIONREC_LOGS=json``).

The gateway's log is JSON always; `log4j2.xml` reads the same variable for TorchServe's.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime

VARIABLE = "ACTIONREC_LOGS"


def as_json() -> bool:
    """Whether each line of the output is an object of JSON."""
    return os.environ.get(VARIABLE) == "json"


class JsonFormatter(logging.Formatter):
    """A record as one line, in the words of the gateway's log."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return line(said, record.created)


def line(said: dict[str, str], seconds: float | None = None) -> str:
    """An object of JSON with its time.

    Args:
        said: names and values.
        seconds: when, since 1970; None: now.
    """
    when = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return json.dumps({"time": when.isoformat().replace("+00:00", "Z"), **said})
