"""Promise: no sender of a contract's requests gets more of the gateway or the engine than his share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from actionrec_gateway.contracts import reading
from tests.helpers_contracts import TEXT, VIDEO, Served, TellingEngine, post, serve


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves all tests of this module."""
    with serve(TellingEngine(), tmp_path_factory.mktemp("run")) as served:
        yield served


@pytest.fixture(autouse=True)
def _nothing_asked_yet(gateway: Served) -> None:
    gateway.engine.asked.clear()


def test_an_engine_gets_few_of_many_at_once(gateway: Served) -> None:
    """Of 64 instances eight are asked for at the same time: others have turns too."""
    gateway.engine.most_at_once = 0
    reply = post(f"{gateway.url}/v1/models/kicker:predict", {"instances": [TEXT] * 64})
    assert len(reply.json()["predictions"]) == 64
    assert gateway.engine.most_at_once == 8


def test_bodies_are_bounded(gateway: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body beyond the limit is refused, with its length announced or not; a compressed one is refused."""
    monkeypatch.setattr("actionrec_gateway.contracts.reading.MOST_BYTES", 1000)
    for body in (b"x" * 1001, iter([b"x" * 600, b"x" * 600])):
        reply = requests.post(f"{gateway.url}/invocations", data=body, timeout=30)
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")
    assert requests.post(f"{gateway.url}/invocations", data=b"x" * 1000, timeout=30).status_code == 200
    assert (
        post(f"{gateway.url}/invocations", data=b"x", headers={"Content-Encoding": "gzip"}).status_code == 415
    )


def test_bodies_share_a_room(gateway: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no memory beside others' bodies is told to come again; a body is forgotten at its end."""
    monkeypatch.setattr("actionrec_gateway.contracts.reading.ROOM", reading.Room(1500))
    found = [requests.post(f"{gateway.url}/invocations", data=b"x" * 1400, timeout=30) for _ in range(3)]
    assert [reply.status_code for reply in found] == [200] * 3
    reply = requests.post(f"{gateway.url}/invocations", data=b"x" * 1501, timeout=30)
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    found = [requests.post(f"{gateway.url}/invocations", data=b"x" * 1500, timeout=30) for _ in range(3)]
    assert [reply.status_code for reply in found] == [200] * 3


def test_a_sender_that_goes_is_no_fault(gateway: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that breaks off within a body is logged in one line, and not as a fault of the gateway."""
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as sender:
        sender.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert requests.post(f"{gateway.url}/invocations", data=VIDEO, timeout=30).status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("name", ["..%2F..%2Fmodels", "kicker%3Fx=1", "kicker%2F1.0", "%20", "k%0d%0aX: 1"])
def test_names_of_models_are_no_way_elsewhere(gateway: Served, name: str) -> None:
    """A name with a slash, a question mark or a line's end never becomes part of an address at the engine."""
    for path in (f"/v1/models/{name}:predict", f"/models/{name}", f"/v2/models/{name}/infer"):
        assert post(gateway.url + path, {"instances": [TEXT], "inputs": TEXT}).status_code == 404
    assert not gateway.engine.asked
