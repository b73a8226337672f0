"""What jobs are tried on: an engine that counts and can be held, and a PostgreSQL of one's own."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import requests
from actionrec.body import read_form

from tests.conftest import DEADLINE_SECONDS

REPLY = {
    "predictions": [{"label": "moving left", "class_index": 0, "score": 1.0}],
    "clip": {
        "start_seconds": 0.0,
        "end_seconds": 1.0,
        "source_frames": 1,
        "source_fps": 1.0,
        "width": 8,
        "height": 8,
        "codec": "h264",
    },
    "model": {"name": "motion", "version": "1.0", "weights": "random", "runtime": "aoti", "precision": "fp32"},
    "timings_ms": {"decode": 1.0, "transform": 1.0, "inference": 1.0},
    "warnings": [],
    "request_id": "fake",
}


_LOST_SECONDS = 20
"""TorchServe gives no answer at all where a worker is killed at a bad moment; a gateway waits for minutes."""


class CountingEngine:
    """An engine between a gateway and the real one, or in its place: it counts what is asked and answered.

    Args:
        behind: addresses of the real engine and its management; None: every video has the same answer.
    """

    def __init__(self, behind: tuple[str, str] | None = None) -> None:
        self.asked: Counter[str] = Counter()
        """Of each video with its options, by their text, how often it was asked."""
        self.answered: Counter[str] = Counter()
        """How often the answer 200 was given."""
        self.let_pass = threading.Event()
        """Cleared: requests are held, unanswered."""
        self.let_pass.set()
        self.held = 0
        """Requests that are held now."""
        self.refuse: Callable[[dict[str, str]], int] = lambda _: 0
        """A status to answer with in the place of a reply; 0: the reply."""
        self.odd: dict[str, Any] = {}
        """What its management says of a model beside, or in the place of, what is usual."""
        self.behind = behind
        self._generation = 0
        self._lock = threading.Lock()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if engine.behind is not None:
                    try:
                        found = requests.get(engine.behind[1] + self.path, timeout=DEADLINE_SECONDS)
                    except requests.RequestException:
                        self._send(503, b"{}")
                        return
                    self._send(found.status_code, found.content)
                    return
                one = {"modelName": "motion", "minWorkers": 1, "workers": []} | engine.odd
                one["jobQueueStatus"] = {"pendingRequests": engine.held}
                shown = [one] if self.path.startswith("/models/") else {"models": [one]}
                self._send(200, json.dumps(shown).encode())

            def do_POST(self) -> None:
                answer = engine._answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                if answer is None:
                    self.close_connection = True
                else:
                    self._send(*answer)

            def _send(self, status: int, body: bytes, own: bool = True) -> None:
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    if own:
                        self.send_header("X-Actionrec", "1")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def hold(self, count: int) -> None:
        """Hold requests, and wait until so many are held."""
        self.let_pass.clear()
        until(lambda: self.held >= count)

    def drop(self) -> None:
        """Forget the requests that are held, as if they had never come, and hold no more."""
        with self._lock:
            self._generation += 1
        self.let_pass.set()
        until(lambda: self.held == 0)

    def _answer(self, path: str, body: bytes) -> tuple[int, bytes, bool] | None:
        form = dict(read_form(body) or {})
        video = form.pop("video", b"")
        options = {name: bytes(value).decode() for name, value in form.items()}
        key = f"{hash(bytes(video))} {sorted(options.items())}"
        with self._lock:
            generation = self._generation
            self.asked[key] += 1
            self.held += 1
        self.let_pass.wait()
        with self._lock:
            self.held -= 1
            if generation != self._generation:
                return None
        if status := self.refuse(options):
            error = {"code": "OUT_OF_REACH", "status": status, "message": "A test's.", "hint": "None."}
            return status, json.dumps({"error": error, "request_id": "1"}).encode(), True
        if self.behind is None:
            status, reply, own = 200, json.dumps(REPLY).encode(), True
        else:
            try:
                found = requests.post(
                    self.behind[0] + path,
                    data=body,
                    headers={"Content-Type": "application/octet-stream"},
                    timeout=_LOST_SECONDS,
                )
            except requests.RequestException:
                return 503, b"{}", False
            status, reply, own = found.status_code, found.content, "x-actionrec" in found.headers
        if status == 200:
            with self._lock:
                self.answered[key] += 1
        return status, reply, own

    def close(self) -> None:
        """End it."""
        self.let_pass.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def counting(behind: tuple[str, str] | None = None) -> Iterator[CountingEngine]:
    """A counting engine, for a block."""
    engine = CountingEngine(behind)
    try:
        yield engine
    finally:
        engine.close()


class Postgres:
    """A PostgreSQL of one's own. It refuses to run as root: there it gets Debian's user for it.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"postgresql://jobs@127.0.0.1:{port}/postgres"
        self._user: dict[str, Any] = {}
        data = folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            debian = pwd.getpwnam("postgres")
            self._user = {"user": debian.pw_uid, "group": debian.pw_gid, "extra_groups": []}
            os.chown(data, debian.pw_uid, debian.pw_gid)
            folder.chmod(0o711)
        make = [_program("initdb"), "-D", str(data), "-U", "jobs", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run(make, check=True, capture_output=True, cwd="/", **self._user)
        self._log = folder / "log"
        self._command = [_program("postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
        self._command += ["-c", "max_connections=200", "-c", "unix_socket_directories="]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(self._command, stdout=log, stderr=log, cwd="/", **self._user)
        until(lambda: _connects(self.url))

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it; with SIGQUIT as if the power went."""
        self._server.send_signal(how)
        self._server.wait()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL, for a block."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = Postgres(Path(folder))
        try:
            yield server
        finally:
            server.stop()


def _connects(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url):
        return True
    return False


def _program(name: str) -> str:
    """One of PostgreSQL's; Debian has them in no PATH."""
    found = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default="")
    assert found, "PostgreSQL is missing: scripts/setup-tests installs it"
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def until(holds: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until something holds; fail where it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.05)


def job_at(url: str, job_id: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A job as it is now."""
    reply = requests.get(f"{url}/jobs/{job_id}", headers=headers, timeout=DEADLINE_SECONDS)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def ended(url: str, job_id: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A job when it has ended."""
    found: dict[str, Any] = {}

    def has() -> bool:
        with suppress(requests.ConnectionError, AssertionError):  # what it asks may be away for a while
            found.update(job_at(url, job_id, headers))
        return found.get("state") in ("done", "failed", "cancelled")

    until(has)
    return found
