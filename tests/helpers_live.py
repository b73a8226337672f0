"""Streams that a gateway watches, and the processes that read them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import requests

from tests.conftest import DEADLINE_SECONDS
from tests.helpers_gateway import RunningGateway
from tests.helpers_processes import command

_PROCESS = "actionrec_gateway.live.reader_process"

Watching = Callable[[str], RunningGateway]


@contextmanager
def events(gateway: RunningGateway, url: str, **more: object) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """The events of a stream as they come, name and data."""
    wanted = {"url": url, "model": "motion", "interval_seconds": 0.5, **more}
    with requests.post(f"{gateway.url}/live", json=wanted, stream=True, timeout=DEADLINE_SECONDS) as response:
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")

        def each() -> Iterator[tuple[str, dict[str, Any]]]:
            name = ""
            for line in response.iter_lines(chunk_size=1, decode_unicode=True):
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))

        yield each()


@contextmanager
def watched(
    watching: Watching, url: str, **more: object
) -> Iterator[tuple[RunningGateway, Iterator[tuple[str, dict[str, Any]]]]]:
    """A gateway and the events of a stream; afterwards no process reads it any more."""
    gateway = watching(url)
    with events(gateway, url, **more) as found:
        yield gateway, found
    if gateway.process.poll() is None:
        no_readers(gateway)


def refused(gateway: RunningGateway, url: str, **more: object) -> dict[str, Any]:
    """The error that a stream is answered with."""
    reply = gateway.post("/live", json={"url": url, "model": "motion", **more})
    assert reply.status_code >= 400, reply.text
    error: dict[str, Any] = reply.json()["error"]
    assert error["status"] == reply.status_code
    assert error["hint"]
    return error


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
