"""A gateway that watches streams of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import RunningServer
from tests.helpers_gateway import RunningGateway, running
from tests.helpers_live import Watching


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
