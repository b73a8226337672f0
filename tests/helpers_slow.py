"""What stands between a client and a server, or a camera and a client, and misbehaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests


@dataclass
class Proxy:
    """Passes requests on to a server, late or not at all."""

    upstream: str
    delay_seconds: float = 0.0
    failing: bool = False
    """Whether to answer 503, as TorchServe does when its queue is full."""
    url: str = ""
    asked: threading.Event = field(default_factory=threading.Event)
    """Set when a clip has come."""
    released: threading.Event = field(default_factory=threading.Event)
    """Set it to end all delays."""


@contextmanager
def proxy(state: Proxy) -> Iterator[Proxy]:
    """Serve until the end of the block; sets ``state.url``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass(requests.get(state.upstream + self.path, timeout=60))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.asked.set()
            state.released.wait(state.delay_seconds)
            if state.failing:
                full = b'{"code": 503, "type": "ServiceUnavailableException", "message": "the queue is full"}'
                self._send(503, full)
                return
            headers = {"Content-Type": self.headers["Content-Type"]}
            self._pass(requests.post(state.upstream + self.path, data=body, headers=headers, timeout=60))

        def _pass(self, reply: requests.Response) -> None:
            self._send(reply.status_code, reply.content)

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with _serving(Handler) as state.url:
        yield state


@contextmanager
def live_http(video: bytes, seconds: float, delay_seconds: float = 0.0) -> Iterator[str]:
    """Sends an MPEG-TS at its own speed and without a length, as cameras do, then hangs up. Yields its address.

    Args:
        video: the file.
        seconds: how long it plays.
        delay_seconds: by which all after the first third comes late.
    """
    chunk = 188 * 7

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            began = time.monotonic()
            try:
                for start in range(0, len(video), chunk):
                    due = began + seconds * start / len(video)
                    due += delay_seconds if start > len(video) / 3 else 0.0
                    time.sleep(max(0.0, due - time.monotonic()))
                    self.wfile.write(video[start : start + chunk])
            except OSError:
                return

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with _serving(Handler) as url:
        yield f"{url}/live.ts"


@contextmanager
def jpeg_camera(pictures: list[bytes], seconds_each: float) -> Iterator[str]:
    """A camera that sends one JPEG after the other (``multipart/x-mixed-replace``). Yields its address.

    Args:
        pictures: JPEG files.
        seconds_each: from one to the next.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            try:
                for picture in pictures:
                    head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    self.wfile.write(head.encode() + picture + b"\r\n")
                    time.sleep(seconds_each)
            except OSError:
                return

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with _serving(Handler) as url:
        yield f"{url}/video.mjpg"


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
