"""A file server on 127.0.0.1 with the manners, good and bad, of those on the Internet."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[str]:
    """Run a server in a thread until the end of the block; yields its address, without a slash at its end."""
    # Python's own half a second between two looks whether to end adds up over hundreds of tests.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class FileServer:
    """What is served and how; what was asked for."""

    files: dict[str, bytes]
    """Path without its slash -> content. Others are 404."""
    cut_after_bytes: int | None = None
    """Close the connection after so many bytes of a body..."""
    cuts: int = 0
    """... this many times."""
    failures: int = 0
    """Answer 503 this many times first."""
    ranges: bool = True
    """Whether Range is understood."""
    url: str = ""
    """With a slash at its end."""
    requested_ranges: list[str] = field(default_factory=list)
    """The Range header of each request, in order; empty for a request without."""


@contextmanager
def serve(state: FileServer) -> Iterator[FileServer]:
    """Serve until the end of the block; sets ``state.url``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = state.files.get(self.path.lstrip("/"))
            state.requested_ranges.append(self.headers.get("Range", ""))
            if content is None:
                self.send_error(404)
                return
            if state.failures:
                state.failures -= 1
                self.send_error(503)
                return
            self._send(content)

        def _send(self, content: bytes) -> None:
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = 0
            if state.ranges and asked and self.headers.get("If-Range", tag) == tag:
                start = int(asked[1])
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if state.cuts and state.cut_after_bytes is not None:
                state.cuts -= 1
                body = body[: state.cut_after_bytes]
            self.wfile.write(body)  # HTTP/1.0: the connection closes after it

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        state.url = f"{url}/"
        yield state
