"""Promise: what one client sends, known or a stranger, takes nothing from another client's share."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from deploy.nginx import Front, add_token
from deploy.preflight import DeployError, free_ports
from tests.helpers_nginx import Outside, error, status_of, variant

pytestmark = pytest.mark.server

pytest_plugins = ("tests.fixtures_nginx",)

WRONG = "Bearer " + "0" * 64


def answers(outside: Outside, count: int, line: str, *headers: str) -> Counter[int]:
    """Statuses of so many requests over one connection, sent as fast as they are answered."""
    found: Counter[int] = Counter()
    lines = [line, "Host: localhost", "Content-Length: 0", *headers]
    with outside.connect() as connection:
        for _ in range(count):
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            answer = connection.recv(65536)
            found[status_of(answer)] += 1
            if b"Connection: close" in answer:
                break
    return found


def test_rate_limit(front: Front, tmp_path: Path) -> None:
    """A client that asks too often gets 429 and Retry-After; a second token is not touched by it."""
    with variant(front, tmp_path, rate=1, burst=3) as outside:
        replies = [outside.predict() for _ in range(12)]
        refused = [reply for reply in replies if reply.status_code != 200]
        assert len(refused) >= 4
        assert {error(reply, 429) for reply in refused} == {"TOO_MANY_REQUESTS"}
        assert refused[0].headers["Retry-After"] == "1"
        assert replace(outside, token=outside.neighbour).predict().status_code == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("POST /predictions/behind HTTP/1.1", 401),
        ("GET /predictions/behind HTTP/1.1", 405),
        ("GET /models HTTP/1.1", 404),
        ("GET /health HTTP/1.1", 200),
        ("POST /health HTTP/1.1", 405),
    ],
)
def test_strangers_are_limited(front: Front, tmp_path: Path, line: str, status: int) -> None:
    """Wrong tokens, and all else that strangers send, are looked at a few times and then get 429.

    A client with a token behind the same address does not notice.
    """
    with variant(front, tmp_path, rate=1, burst=10) as outside:
        began = time.monotonic()
        found = answers(outside, 300, line, f"Authorization: {WRONG}")
        looked_at = found.pop(status)
        assert set(found) == {429}
        assert 11 <= looked_at <= 12 + (time.monotonic() - began), found
        assert [outside.predict().status_code for _ in range(10)] == [200] * 10


def test_the_health_of_the_service_is_asked_apart(front: Front, tmp_path: Path) -> None:
    """What strangers send to other addresses does not make a load balancer believe that nobody is there."""
    with variant(front, tmp_path, rate=1, burst=5) as outside:
        assert answers(outside, 50, "POST /predictions/behind HTTP/1.1", f"Authorization: {WRONG}")[429] > 30
        assert answers(outside, 5, "GET /health HTTP/1.1") == {200: 5}


@contextmanager
def on_their_way(outside: Outside, count: int) -> Iterator[list[Future[requests.Response]]]:
    """So many requests that the server takes two seconds for, all sent."""
    with ThreadPoolExecutor(count) as pool:
        sent = [pool.submit(outside.predict, b"sleep 2") for _ in range(count)]
        time.sleep(0.7)
        yield sent


def test_requests_in_flight(front: Front, tmp_path: Path) -> None:
    """A client has so many clips on their way at once; beyond it 429, and another client's get their turn."""
    with variant(front, tmp_path, in_flight=2) as outside, on_their_way(outside, 5) as sent:
        assert replace(outside, token=outside.neighbour).predict().status_code == 200
        replies = [reply.result() for reply in sent]
        assert Counter(reply.status_code for reply in replies) == {200: 2, 429: 3}
        refused = [reply for reply in replies if reply.status_code == 429]
        assert {error(reply, 429) for reply in refused} == {"TOO_MANY_REQUESTS"}
        assert outside.predict().status_code == 200


def test_uploads_of_strangers(front: Front, tmp_path: Path) -> None:
    """Slow uploads with wrong tokens hold no place of a client with a token behind the same address."""
    with variant(front, tmp_path, in_flight=2, connections=4) as outside:
        connections = [outside.connect() for _ in range(10)]
        try:
            for connection in connections:
                head = outside.head("POST /predictions/behind HTTP/1.1", "Content-Length: 1000000")
                connection.sendall(head.replace(outside.token.encode(), b"0" * 64) + b"x" * 1000)
            assert [outside.predict().status_code for _ in range(5)] == [200] * 5
        finally:
            for connection in connections:
                connection.close()


def test_without_tokens_the_address_counts(front: Front, tmp_path: Path) -> None:
    """Where no token is asked for, an address is a client: for the limits, and for TorchServe."""
    with variant(front, tmp_path, tokens=None, in_flight=2) as outside:
        assert outside.predict().json()["headers"]["X-Actionrec-Client"] == "127.0.0.1"
        with on_their_way(outside, 4) as sent:
            assert Counter(reply.result().status_code for reply in sent) == {200: 2, 429: 2}


def test_a_network_of_ipv6_is_one_stranger(front: Front, tmp_path: Path) -> None:
    """Of IPv6 anyone has addresses without number: the /64 is the client."""
    port = free_ports("127.0.0.1")
    with variant(front, tmp_path, tokens=None, listen=f"[::1]:{port}", cert=None, key=None):
        reply = requests.post(f"http://[::1]:{port}/predictions/behind", data=b"x", timeout=60)
        assert reply.json()["headers"]["X-Actionrec-Client"] == "::/64"


def test_slow_clients_do_not_hold_up_a_good_one(outside: Outside) -> None:
    """Forty that send headers or bodies a byte at a time; another client is served meanwhile."""
    slow = []
    try:
        for number in range(40):
            connection = outside.connect()
            connection.sendall(
                outside.head("POST /predictions/behind HTTP/1.1", "Content-Length: 1000000")
                if number % 2
                else b"POST /predictions/behind HTTP/1.1\r\n"
            )
            slow.append(connection)
        for _ in range(3):
            for connection in slow:
                connection.sendall(b"X")
            assert replace(outside, token=outside.neighbour).predict(b"clip").json()["bytes"] == 4
        # Those whose headers do not come are cut off.
        slow[0].settimeout(40)
        assert status_of(slow[0].recv(4096)) in (0, 408)
    finally:
        for connection in slow:
            connection.close()


def test_busy(outside: Outside) -> None:
    """More than worker and queue hold: 503 in the product's form; the accepted get through."""
    slow = [subprocess_post(outside, b"sleep 3") for _ in range(10)]
    replies = [json.loads(process.communicate(timeout=60)[0]) for process in slow]
    codes = sorted(str(reply.get("error", {}).get("code", "answered")) for reply in replies)
    assert set(codes) == {"UNAVAILABLE", "answered"}
    assert 1 <= codes.count("answered") <= 4  # one in the worker, two in the queue, one between them


def subprocess_post(outside: Outside, body: bytes) -> subprocess.Popen[str]:
    command = ["curl", "-sS", "--cacert", str(outside.cert), "-H", f"Authorization: Bearer {outside.token}"]
    command += [
        "-H",
        "Content-Type: video/mp4",
        "--data-binary",
        body.decode(),
        f"{outside.url}/predictions/behind",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", ["10.0.0.1", "7", "::1", "a b", "", "x" * 65, 'a";', "ä"])
def test_names_of_clients(tmp_path: Path, name: str) -> None:
    """A name that could be an address, or something else in the configuration, is refused."""
    with pytest.raises(DeployError):
        add_token(tmp_path / "tokens", name)
