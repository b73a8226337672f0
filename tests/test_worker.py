"""Promise: a worker does what whoever started it says, and says of itself what is so."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from actionrec import worker
from actionrec.service import Service
from actionrec.worker import Report

from tests.conftest import PROJECT

sys.path.append(str(PROJECT / "handler"))  # what ships in the archive beside the core
import torchserve_queue

IDLE, BUSY = ({"jobQueueStatus": {"pendingRequests": number}} for number in (0, 3))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """A management API that answers the first item of this list, and appends the path that was asked for."""
    replies: list[object] = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            replies.append(self.path)
            body = json.dumps(replies[0]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv(worker.MANAGEMENT_URL, f"http://127.0.0.1:{server.server_port}")
    yield replies
    server.shutdown()
    thread.join()
    server.server_close()


class Clock:
    """A time that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("gpus", "cpus", "seconds"), [(0, 40, 0.25), (1, 0, 0.25), (4, 0, 1.0), (40, 0, 2.0)])
def test_workers_on_gpus_ask_less_often(
    asked: list[object], monkeypatch: pytest.MonkeyPatch, gpus: int, cpus: int, seconds: float
) -> None:
    """A worker asks four times a second; those on GPUs do so together, and each every two seconds at least."""
    clock = Clock()
    monkeypatch.setattr(torchserve_queue, "time", clock)
    asked.append([{**BUSY, "workers": [{"gpu": True}] * gpus + [{"gpu": False}] * cpus}])
    queue = torchserve_queue.Queue("m")
    assert queue.waits()
    clock.now += seconds - 0.01
    assert queue.waits()
    assert asked[1:] == ["/models/m"]
    asked[0] = [{**IDLE, "workers": []}]
    clock.now += 0.02
    assert not queue.waits()
    assert asked[1:] == ["/models/m"] * 2


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a management API nobody waits, as far as a worker knows."""
    monkeypatch.delenv(worker.MANAGEMENT_URL, raising=False)
    assert not torchserve_queue.Queue("m").waits()


def test_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is there for whoever asked for it; a missing, odd or undeliverable one harms nobody."""
    report = Report("cuda:1", 4)
    monkeypatch.delenv(worker.REPORTS, raising=False)
    report.save()
    assert Report.load(tmp_path, os.getpid()) is None
    monkeypatch.setenv(worker.REPORTS, str(tmp_path))
    report.save()
    assert Report.load(tmp_path, os.getpid()) == report
    (tmp_path / "7.json").write_text('{"device": "cpu", "colour": 1}')
    assert Report.load(tmp_path, 7) is None
    monkeypatch.setenv(worker.REPORTS, str(tmp_path / "gone"))
    report.save()


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("", os.cpu_count()), (None, os.cpu_count())])
def test_decoding_width(
    motion_unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, threads: int
) -> None:
    """A worker decodes as many windows at once as it was told, whatever its batches are, and says so."""
    monkeypatch.setenv(worker.REPORTS, str(tmp_path))
    if said is None:
        monkeypatch.delenv(worker.DECODE_THREADS, raising=False)
    else:
        monkeypatch.setenv(worker.DECODE_THREADS, said)
    service = Service.load(motion_unpacked, rows=2, sandbox=False)
    try:
        assert (service.classifier.decode_threads, service.classifier.open_clips) == (threads, 2)
        assert Report.load(tmp_path, os.getpid()) == Report("cpu", threads)
    finally:
        service.close()
