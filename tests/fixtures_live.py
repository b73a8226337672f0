"""A gateway that watches streams of this machine, and the processes that read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.conftest import DEADLINE_SECONDS, RunningServer
from tests.helpers_gateway import RunningGateway, running
from tests.helpers_processes import command

_PROCESS = "actionrec_gateway.live.reader_process"

Watching = Callable[[str], RunningGateway]


@pytest.fixture
def watching(tmp_path: Path, motion_server: RunningServer) -> Iterator[Watching]:
    """Starts a gateway that may fetch from one address of this machine, one stream at a time."""
    with ExitStack() as stack:

        def start(url: str) -> RunningGateway:
            allowed = "{0.scheme}://{0.netloc}/".format(urlsplit(url))
            gateway = running(
                tmp_path / "gateway",
                motion_server.inference_url,
                motion_server.management_url,
                *("--fetch", allowed, "--fetch-private", "1", "--streams-at-once", "1"),
            )
            return stack.enter_context(gateway)

        yield start


def readers(gateway: RunningGateway) -> list[psutil.Process]:
    """The processes that read streams."""
    children = psutil.Process(gateway.process.pid).children(recursive=True)
    return [child for child in children if any(_PROCESS in word for word in command(child))]


def no_readers(gateway: RunningGateway) -> None:
    """Wait until there is none."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while readers(gateway):
        assert time.monotonic() < deadline
        time.sleep(0.05)
