"""A real nginx, and a stranger's view of it."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests

from deploy.nginx import Front, add_token, render
from deploy.preflight import free_ports

BODY_LIMIT = 3_000_000


@dataclass(frozen=True)
class Outside:
    """What a stranger has: an address and a certificate to check it by; and a client: a token besides."""

    port: int
    cert: Path
    token: str
    neighbour: str
    """Another client's token."""
    home: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def predict(
        self, body: bytes = b"clip", path: str = "/predictions/behind", **headers: str
    ) -> requests.Response:
        return requests.post(
            self.url + path,
            data=body,
            headers={"Authorization": f"Bearer {self.token}", **headers},
            verify=str(self.cert),
            timeout=60,
        )

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=40)
        return ssl.create_default_context(cafile=str(self.cert)).wrap_socket(plain, server_hostname="localhost")

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are; all that comes back until the connection is closed."""
        with self.connect() as connection:
            answer = b""
            try:
                for part in parts:
                    connection.sendall(part)
                while part := connection.recv(65536):
                    answer += part
            except (ConnectionError, ssl.SSLError):
                pass  # cut off: what came before counts
            return answer

    def head(self, line: str, *headers: str) -> bytes:
        lines = [line, "Host: localhost", f"Authorization: Bearer {self.token}", *headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@contextmanager
def nginx(front: Front, home: Path) -> Iterator[None]:
    """A real nginx with this configuration."""
    for directory in (front.run_dir, front.log_dir):
        directory.mkdir(parents=True, exist_ok=True)
    if shutil.which("nginx") is None:
        pytest.fail("nginx is not installed: apt-get install nginx-light", pytrace=False)
    config = home / "nginx.conf"
    config.write_text(render(front), encoding="utf-8")
    process = subprocess.Popen(
        ["nginx", "-c", str(config), "-g", "daemon off;"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    address, port = front.listen.rsplit(":", 1)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((address.strip("[]"), int(port)), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    pytest.fail(f"nginx did not start: {process.stderr.read()}", pytrace=False)
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


@contextmanager
def variant(front: Front, home: Path, **changes: object) -> Iterator[Outside]:
    """Another nginx in front of the same server, with tokens of its own.

    Args:
        front: that this one is like.
        home: an empty directory; its logs are in ``logs``.
        changes: of `Front`'s fields.
    """
    assert front.cert is not None
    port, tokens = free_ports("127.0.0.1"), home / "tokens"
    token, neighbour = add_token(tokens, "tester"), add_token(tokens, "neighbour")
    own = {"listen": f"127.0.0.1:{port}", "tokens": tokens, "run_dir": home / "run", "log_dir": home / "logs"}
    changed = replace(front, **{**own, **changes})  # type: ignore[arg-type]
    with nginx(changed, home):
        yield Outside(int(changed.listen.rsplit(":", 1)[1]), front.cert, token, neighbour, home)


def error(reply: requests.Response, status: int) -> str:
    """The code of an error in the product's own form."""
    assert reply.status_code == status, reply.text
    assert reply.headers["Content-Type"] == "application/json"
    body = reply.json()
    assert body["error"]["status"] == status
    assert body["error"]["message"]
    assert body["error"]["hint"]
    assert body["request_id"]
    return str(body["error"]["code"])


def status_of(answer: bytes) -> int:
    """Of a raw answer; 0 where the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
