"""``python -m actionrec_gateway``: the gateway as a process. SIGTERM lets it answer what is in flight first."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from .app import create_app
from .settings import Settings
from .torchserve import TorchServe

_DRAIN_SECONDS = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal ends it; returns the exit code."""
    settings = _settings(arguments)
    listening = socket.create_server((settings.host, settings.port), reuse_port=False)
    asyncio.run(_serve(settings, listening))
    return 0


async def _serve(settings: Settings, listening: socket.socket) -> None:
    app = create_app(settings, TorchServe(settings))
    config = uvicorn.Config(
        app, access_log=False, timeout_graceful_shutdown=_DRAIN_SECONDS, server_header=False, ws="none"
    )
    await uvicorn.Server(config).serve([listening])


def _settings(arguments: Sequence[str] | None) -> Settings:
    own = Settings()
    parser = argparse.ArgumentParser(prog="python -m actionrec_gateway", description=__doc__)
    option = parser.add_argument
    option("--engine", default=own.engine)
    option("--management", default=own.management)
    option("--host", default=own.host)
    option("--port", type=int, default=own.port)
    option("--run-dir", type=Path, default=own.run_dir)
    chosen = parser.parse_args(arguments)
    return Settings(**vars(chosen), database_url=os.environ.get("DATABASE_URL"))


if __name__ == "__main__":
    sys.exit(main())
