"""``python -m actionrec_gateway``: the gateway as a process.

It prints one line of JSON with its address when it listens. SIGTERM lets it answer what is in flight first.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn
import uvloop

from .app import create_app
from .canary import Canary
from .contracts import container
from .engine import Engine
from .observe import logs, traces
from .options import Run, parse
from .settings import Settings
from .torchserve import TorchServe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal ends it; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["serve"]:
        container.serve(given[1:])
    settings, run = parse(given)
    logs.start(run.log_file)
    if traces.asked_for():
        traces.start()
    try:
        listening = socket.create_server(
            (settings.host, settings.port), family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        )
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        sys.stderr.write(f"error: {where}: {error.strerror}; choose another: GATEWAY_PORT=9000\n")
        return 1
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, run, listening))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    finally:
        traces.stop()
    return 0


async def _serve(settings: Settings, run: Run, listening: socket.socket) -> None:
    closing = asyncio.Event()
    engine: Engine = TorchServe(settings)
    if settings.canary:
        engine = Canary(engine, settings.canary)
    app = create_app(settings, engine, closing)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # whoever asks could call himself anything
        ws="none",
        http="httptools",
        timeout_graceful_shutdown=run.drain_seconds,
    )
    await _Server(config, closing).serve([listening])


class _Server(uvicorn.Server):
    """Says where it listens, and tells the application of a signal before it waits for answers.

    Args:
        config: uvicorn's.
        closing: set at the first signal.
    """

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing, self._loop = closing, asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started and sockets:
            gc.collect()
            gc.freeze()  # what was imported is not looked at again while requests wait
            sys.stdout.write(json.dumps({"url": _url(sockets[0])}) + "\n")
            sys.stdout.flush()
            sys.stdout = sys.stderr  # whoever reads that line may not read on

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a signal handler's
        """Begin to end. The signal is not raised again at the end, as uvicorn does: the exit code is 0."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._closing.set)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
