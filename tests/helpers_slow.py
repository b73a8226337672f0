"""What stands between a client and a server, or a camera and a client, and misbehaves."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import requests

from tests.helpers_http import running


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


class LiveHls:
    """A video played as live HLS, over and over: a playlist of the last four seconds, in segments of one.

    Use it in a ``with`` statement.

    Args:
        video: a file whose key frames are a second apart at most.
        folder: for the playlist and the segments.
    """

    def __init__(self, video: bytes, folder: Path) -> None:
        self._video, self._folder = video, folder
        self._over, self._hidden = threading.Event(), threading.Event()
        self._player = threading.Thread(target=self._play, daemon=True)
        self._server = ExitStack()
        self.url = ""

    def hide(self) -> None:
        """Every file is 404, as it is while a media server starts."""
        self._hidden.set()

    def show(self) -> None:
        """All is as it was; it has played on."""
        self._hidden.clear()

    def __enter__(self) -> LiveHls:
        hidden = self._hidden

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if hidden.is_set():
                    self.send_error(404)
                else:
                    super().do_GET()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._player.start()
        address = self._server.enter_context(_serving(partial(Handler, directory=str(self._folder))))
        self.url = f"{address}/live.m3u8"
        while self._player.is_alive() and not (self._folder / "live.m3u8").exists():
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.close()
        self._player.join()

    def _play(self) -> None:
        options = {"hls_time": "1", "hls_list_size": "4", "hls_flags": "delete_segments+temp_file"}
        playlist = str(self._folder / "live.m3u8")
        with (
            av.open(playlist, "w", format="hls", options=options) as output,
            av.open(io.BytesIO(self._video), "r") as file,
        ):
            source = file.streams.video[0]
            stream = output.add_stream_from_template(source)
            assert source.duration is not None
            assert source.time_base is not None
            length, began, offset = float(source.duration * source.time_base), time.monotonic(), 0.0
            while True:
                for packet in file.demux(source):
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue
                    due = began + offset + float(packet.dts * packet.time_base)
                    packet.dts += round(offset / packet.time_base)
                    packet.pts += round(offset / packet.time_base)
                    packet.stream = stream
                    if self._over.wait(max(0.0, due - time.monotonic())):
                        return
                    output.mux(packet)
                offset += length
                file.seek(0)


@contextmanager
def _serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    with running(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as url:
        yield url
