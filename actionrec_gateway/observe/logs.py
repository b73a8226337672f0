"""JSON logs, one object a line: the gateway's own, and those of the libraries that it stands on."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

import structlog

_FILE_BYTES = 100_000_000
_FILES = 5
"""As many files of this size are kept, as of TorchServe's (``deploy/log4j2.xml``)."""


def start(file: Path | None = None, level: int = logging.INFO) -> None:
    """Send all logs of this process to a file that is rotated, or to standard error.

    Args:
        file: its path; None: standard error.
        level: of `logging`; what is below it is left out.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler: logging.Handler = (
        logging.handlers.RotatingFileHandler(file, maxBytes=_FILE_BYTES, backupCount=_FILES)
        if file
        else logging.StreamHandler()
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.PositionalArgumentsFormatter()],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("aiohttp.access", "httpx", "apscheduler"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
