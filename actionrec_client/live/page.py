"""The picture in a browser: MJPEG over HTTP on this machine alone.

The wheels of OpenCV that servers want have no windows, and a page also shows through ``ssh -L``.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from ..files.draw import Picture

_QUALITY = 80
_BOUNDARY = "frame"
_WAIT_SECONDS = 5.0
_HTML = b"""<!doctype html><title>slowfast stream</title>
<body style="margin:0;background:#111"><img src="/stream" style="max-width:100vw;max-height:100vh"></body>"""


class Page:
    """Serves pictures at `url` until it is closed.

    Args:
        port: on 127.0.0.1; 0: a free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port: int = 0) -> None:
        self._jpeg = b""
        self._number = 0
        self._closed = False
        self._changed = threading.Condition()
        page = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30

            def do_GET(self) -> None:
                # A page from elsewhere must not read the camera through a name that it points here.
                host = self.headers.get("Host", "").rsplit(":", 1)[0]
                if host not in ("127.0.0.1", "localhost"):
                    self.send_error(403)
                elif self.path == "/":
                    self._send_page()
                elif self.path == "/stream":
                    self._send_pictures()
                else:
                    self.send_error(404)

            def _send_page(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(_HTML)))
                self.end_headers()
                self.wfile.write(_HTML)

            def _send_pictures(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                number = 0
                try:
                    while (item := page.after(number)) is not None:
                        number, jpeg = item
                        head = (
                            f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                        )
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                except OSError:
                    return  # the viewer has left

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()

    def add(self, picture: Picture, seconds: float) -> None:  # noqa: ARG002  # a page has no clock
        """Show a picture."""
        bgr = np.ascontiguousarray(picture[:, :, ::-1])
        _, coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        with self._changed:
            self._jpeg = coded.tobytes()
            self._number += 1
            self._changed.notify_all()

    def after(self, number: int) -> tuple[int, bytes] | None:
        """The newest picture and its number; waits for one after `number`.

        When none comes for some seconds it gives the same one again: sending it shows whether the viewer is
        still there. None when the page is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self._closed, _WAIT_SECONDS)
            return None if self._closed else (self._number, self._jpeg)

    def close(self) -> None:
        """Stop serving."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
