"""An HTTP server on 127.0.0.1 that does to its callers what servers and networks do on a bad day."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers_http import running

GOOD: dict[str, Any] = {
    "predictions": [{"label": "archery", "class_index": 5, "score": 0.9}],
    "clip": {
        "start_seconds": 0.0,
        "end_seconds": 2.133,
        "source_frames": 64,
        "source_fps": 30.0,
        "width": 320,
        "height": 240,
        "codec": "h264",
    },
    "model": {
        "name": "m",
        "version": "1.0",
        "weights": "random",
        "runtime": "torchscript",
        "precision": "fp32",
    },
    "timings_ms": {"decode": 1.0, "transform": 1.0, "inference": 1.0},
    "warnings": [],
}


@dataclass(frozen=True)
class Answer:
    """What happens to one request."""

    status: int = 200
    body: Any = field(default_factory=lambda: GOOD)
    """JSON, or text as it is."""
    headers: tuple[tuple[str, str], ...] = ()
    reset: bool = False
    """Cut the connection with a TCP reset in the place of a reply."""
    hang: bool = False
    """Never answer."""
    drip_seconds: float = 0.0
    """Send the body a byte at a time, so long after each other."""
    stall_after: int | None = None
    """Send so many bytes of the body, then nothing more."""
    cut_after: int | None = None
    """Send so many bytes of the body, then close."""


QUEUE_FULL = Answer(503, {"code": 503, "type": "ServiceUnavailableException", "message": "queue is full"})
RAISED = Answer(503, {"code": 503, "type": "InternalServerException", "message": "Prediction failed"})
WORKER_DIED = Answer(507, {"code": 507, "type": "InternalServerException", "message": "Worker died."})
RESET = Answer(reset=True)
HANG = Answer(hang=True)


@dataclass
class Misbehaving:
    """What was asked of it."""

    url: str
    bodies: list[bytes] = field(default_factory=list)
    """Of every request, in order."""
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each came: time.monotonic()."""
    most_at_once: int = 0


@contextmanager
def misbehaving(answers: Sequence[Answer], seconds_each: float = 0.0) -> Iterator[Misbehaving]:
    """Serve `answers` one after the other, then the last one for ever.

    Args:
        answers: at least one.
        seconds_each: that a request takes.
    """
    lock = threading.Lock()
    ended = threading.Event()
    now = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal now
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                answer = answers[min(len(state.bodies), len(answers) - 1)]
                state.bodies.append(body)
                state.headers.append(dict(self.headers))
                state.times.append(time.monotonic())
                now += 1
                state.most_at_once = max(state.most_at_once, now)
            try:
                time.sleep(seconds_each)
                self._answer(answer)
            finally:
                with lock:
                    now -= 1

        do_GET = do_PUT = do_POST

        def _answer(self, answer: Answer) -> None:
            self.close_connection = True
            if answer.reset:
                # Linger of zero seconds: close sends RST, not FIN.
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                return
            if answer.hang:
                ended.wait()
                return
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            content = text.encode()
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            # Else a caller may send its next request into the connection that is being closed.
            self.send_header("Connection", "close")
            self.end_headers()
            if not answer.drip_seconds:
                part = answer.cut_after if answer.stall_after is None else answer.stall_after
                self.wfile.write(content[:part])
                self.wfile.flush()
                if answer.stall_after is not None:
                    ended.wait()
                return
            for byte in content:
                if ended.wait(answer.drip_seconds):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """The caller went away: that is what is tried here."""

    with running(Server(("127.0.0.1", 0), Handler)) as url:
        state = Misbehaving(url)
        try:
            yield state
        finally:
            ended.set()
