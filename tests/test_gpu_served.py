"""Promise: the served rate of a GPU host counts answers alone, and names the part that holds it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from actionrec.manifest import Artifact, Manifest

from benchmarks import job
from benchmarks.gpu import clients, parts, served
from benchmarks.gpu.plan import MOTION
from benchmarks.gpu.record import DONE, FAILED
from benchmarks.videos import video
from export import artifacts
from motion.model import MOTION_SPEC
from motion.scene import LABELS

# Served


def test_bottleneck() -> None:
    """The part that can do the least is named, with the share of it that is served; no guess without a part."""
    rows: dict[str, dict[str, Any]] = {
        "served 340x256 64 clients": {"state": DONE, "clips/s": 450.0},
        "served 340x256 1 clients": {"state": FAILED},
        "sandbox 340x256": {"clips/s": 500.0},
        "model and copy": {"model clips/s": 1000.0, "copy clips/s": 3000.0},
        "server 340x256": {"clips/s": 2000.0},
        "tutorial 340x256": {"clips/s": 9.0},
    }
    found = served.bottleneck(rows, "340x256")
    assert found["bottleneck"] == "decode"
    assert found["of the bottleneck"] == pytest.approx(0.9)
    assert found["x tutorial"] == pytest.approx(50.0)
    rows["model and copy"]["model clips/s"] = 400.0
    assert served.bottleneck(rows, "340x256")["bottleneck"] == "model"
    del rows["server 340x256"]
    assert served.bottleneck(rows, "340x256") == {}


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes], tuple[str, list[str | None]]]]:
    """Starts a server that gives one answer to all; the list has the clients' names that it saw."""
    running: list[ThreadingHTTPServer] = []

    def start(status: int, body: bytes) -> tuple[str, list[str | None]]:
        names: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                names.append(self.headers[clients.CLIENT])
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/predictions/some", names

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("named", [True, False])
def test_clients(named: bool, answering: Callable[..., tuple[str, list[str | None]]], tmp_path: Path) -> None:
    """Answers are counted, and clients that have names keep them."""
    clip = tmp_path / "clip"
    clip.write_bytes(b"bytes")
    url, names = answering(200, b'{"predictions": []}')
    found = clients.load(url, str(clip), 2, named, 0.1, 0.5, first=4)
    assert found["failed"] == 0
    assert found["ms"]
    assert set(names) == ({"client-4", "client-5"} if named else {None})


@pytest.mark.parametrize(("status", "body"), [(503, b"busy"), (200, b'{"error": {}}')])
def test_clients_that_get_no_answer(
    status: int, body: bytes, answering: Callable[..., tuple[str, list[str | None]]], tmp_path: Path
) -> None:
    """A refusal is no answer: it is counted apart, with what was said."""
    clip = tmp_path / "clip"
    clip.write_bytes(b"bytes")
    found = clients.load(answering(status, body)[0], str(clip), 1, False, 0.0, 5.0, first=0)
    assert found["ms"] == []
    assert found["failed"] > 0
    assert found["errors"][0] == f"{status}: {body.decode()}"


def test_parts_are_measured(tmp_path: Path) -> None:
    """Decoding, alone and as a worker has it done, and the tutorial's loop each have a rate."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video(340, 256))
    assert parts.decoding(str(clip), MOTION, None, 0.1)["clips/s"] > 0
    assert parts.sandboxed(str(clip), MOTION, None, 2, True, 0.1)["clips/s"] > 0
    assert parts.loop(str(clip), "cpu", MOTION, None, 0.1)["clips/s"] > 0


def test_tutorial_runs_where_the_archive_is_for(tmp_path: Path) -> None:
    """An archive for a GPU is loaded there, and the tutorial's model beside it: both sides have one device."""
    for device in ("cpu", "cuda"):
        artifact = Artifact(artifacts.PORTABLE, "fp32", device, "model.pt")
        Manifest("small", "1.0", MOTION_SPEC, "", (artifact,), LABELS).write(tmp_path, {})
        assert job.device_of(tmp_path) == device
