"""Promise: stopping a server loses nothing that is in flight, and lets nothing new in meanwhile."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from deploy import drain as drain_module
from deploy import server as deploy_server
from tests.conftest import PROJECT, RunningServer, StartServer, pack

pytestmark = pytest.mark.server

SLOW = """
import time

class Slow:
    def initialize(self, context): pass
    def handle(self, data, context):
        fields = [{name: bytes(value).decode() for name, value in row.items()} for row in data]
        time.sleep(max(float(row.get("seconds", 0)) for row in fields))
        return [row["name"].encode() for row in fields]
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes as long as it is told and answers with the request's name; one worker, no batches."""
    return pack("slow", SLOW, tmp_path_factory.mktemp("drain") / "store", "minWorkers: 1\nbatchSize: 1\n")


@pytest.fixture
def slow(server: StartServer, archive: Path) -> RunningServer:
    return server(archive)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as executor:
        yield executor


def ask(running: RunningServer, name: str, seconds: float) -> str:
    """The text of the answer; the connection closes with the response that is not kept."""
    fields = {"name": name, "seconds": str(seconds)}
    return requests.post(running.state.predict_url(), data=fields, timeout=60).text


def stop(running: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy", "stop", "--run-dir", str(running.run_dir), *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)


def in_flight(running: RunningServer, count: int) -> None:
    """Wait until the server has got so many requests."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        metrics = requests.get(running.metrics_url, timeout=10).text
        lines = [line for line in metrics.splitlines() if line.startswith("ts_inference_requests_total{")]
        if sum(float(line.split()[-1]) for line in lines) >= count:
            return
        time.sleep(0.05)
    pytest.fail("the requests did not arrive")


def refused(running: RunningServer) -> bool:
    try:
        socket.create_connection(("127.0.0.1", urlsplit(running.inference_url).port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_everything_in_flight_is_answered(slow: RunningServer, pool: ThreadPoolExecutor) -> None:
    """Requests in the worker, in the queue and half-way up the line are all answered; new ones are refused."""
    names = [f"request {number}" for number in range(8)]
    answers: list[Future[str]] = [pool.submit(ask, slow, name, 0.7) for name in names]
    in_flight(slow, len(names))
    address = ("127.0.0.1", urlsplit(slow.inference_url).port)
    with socket.create_connection(address, timeout=60) as upload:
        body = b"name=upload"
        head = f"POST /predictions/slow HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        upload.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n".encode() + body[:4])
        time.sleep(0.3)
        stopped = pool.submit(stop, slow)
        deadline = time.monotonic() + 20
        while not refused(slow):
            assert time.monotonic() < deadline, "new connections are still taken"
            time.sleep(0.05)
        assert slow.state.process.alive()
        time.sleep(0.5)
        upload.sendall(body[4:])
        reply = b""
        while not reply.endswith(b"upload") and (part := upload.recv(4096)):
            reply += part
    assert reply.startswith(b"HTTP/1.1 200"), reply
    assert reply.endswith(b"upload"), reply
    assert [answer.result() for answer in answers] == names
    assert (stopped.result().returncode, stopped.result().stdout) == (0, "Stopped.\n")
    assert not slow.state.process.alive()


def test_the_patience_has_an_end(slow: RunningServer, pool: ThreadPoolExecutor) -> None:
    """A request that takes longer than the limit does not hold the stop, and is counted."""
    answer = pool.submit(ask, slow, "late", 50)
    in_flight(slow, 1)
    began = time.monotonic()
    stopped = stop(slow, "--drain", "1")
    assert stopped.stdout == "Stopped; 1 connection still waited for an answer.\n"
    assert time.monotonic() - began < 45, "it waited for the answer"
    with pytest.raises(requests.ConnectionError):
        answer.result()


def test_idle_connections_do_not_hold_the_stop(slow: RunningServer) -> None:
    """A client that keeps its answered connection open owes nothing and is owed nothing."""
    with requests.Session() as session:
        url = slow.state.predict_url()
        assert session.post(url, data={"name": "a", "seconds": "0.1"}, timeout=60).text == "a"
        port = urlsplit(slow.inference_url).port
        assert port is not None
        assert drain_module.drain(slow.state.process.pid, port, 30) == 0
        # The connection that was there still works: only new ones are refused.
        assert session.post(url, data={"name": "b", "seconds": "0.1"}, timeout=60).text == "b"
        assert refused(slow)


def test_where_sockets_are_not_lent(
    slow: RunningServer, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system forbids it, a stop still waits until the connections are gone."""

    def forbidden(process: int, number: int) -> int:
        raise PermissionError(f"socket {number} of {process}")

    monkeypatch.setattr(drain_module, "_lend", forbidden)
    answers = [pool.submit(ask, slow, name, 0.5) for name in ("a", "b", "c")]
    in_flight(slow, 3)
    assert deploy_server.stop(slow.run_dir) == deploy_server.Stopped(unanswered=0)
    assert [answer.result() for answer in answers] == ["a", "b", "c"]
