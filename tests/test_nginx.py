"""Promise: through the nginx in front, clips get their labels and nothing else of the server can be reached."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from actionrec_client import ActionClient
from actionrec_client.errors import Refused
from actionrec_client.probe import probe
from deploy.nginx import Front, add_token, render
from deploy.preflight import DeployError, free_ports
from motion.clips import random_clip
from tests.conftest import RunningServer
from tests.helpers_nginx import BODY_LIMIT, Outside, error, nginx, status_of

pytest_plugins = ("tests.fixtures_nginx",)


def test_a_clip_gets_through(outside: Outside) -> None:
    """POST and PUT, raw, chunked and as a form, with and without a version, arrive whole."""
    assert outside.predict(b"x" * 2_000_000).json()["bytes"] == 2_000_000
    assert outside.predict(path="/predictions/behind/1.0").json()["bytes"] == 4
    headers = {"Authorization": f"Bearer {outside.token}"}
    url = f"{outside.url}/predictions/behind"
    put = requests.put(url, data=b"clip", headers=headers, verify=str(outside.cert), timeout=60)
    assert put.json()["bytes"] == 4
    chunked = requests.post(
        url, data=iter([b"a" * 1000, b"b" * 500]), headers=headers, verify=str(outside.cert), timeout=60
    )
    assert chunked.json()["bytes"] == 1500
    form = requests.post(
        url,
        files={"data": b"clip"},
        data={"top_k": "3"},
        headers=headers,
        verify=str(outside.cert),
        timeout=60,
    )
    # It is the handler that takes it apart.
    assert form.json()["fields"] == 1
    assert form.json()["bytes"] == int(form.request.headers["Content-Length"])


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data; boundary=",
        "application/x-www-form-urlencoded",
        "application/json",
        "text/x",
        "\xff",
    ],
)
def test_torchserve_takes_nothing_apart(outside: Outside, kind: str) -> None:
    """Whatever a body calls itself, TorchServe gets bytes: it parses no form and no JSON."""
    reply = outside.predict(b"[1]", **{"Content-Type": kind})
    assert reply.json()["bytes"] == 3
    assert reply.json()["headers"]["Content-Type"] == "application/octet-stream"


def test_only_needed_headers_go_on(outside: Outside) -> None:
    """Tokens, cookies and whatever else a client sends stay outside; the client's name is nginx's word."""
    reply = outside.predict(
        b"clip",
        "/predictions/behind",
        Cookie="a=b",
        Describe="True",
        Forwarded="for=127.0.0.1",
        **{"X-Actionrec-Client": "you"},
    )
    headers = reply.json()["headers"]
    assert headers["X-Actionrec-Client"] == "tester"
    assert headers["X-Request-Id"]
    seen = {name.lower() for name in headers}
    assert not seen & {"authorization", "cookie", "describe", "forwarded"}
    assert len([name for name in seen if "actionrec" in name]) == 1


def test_a_token_is_asked_for(outside: Outside, front: Front) -> None:
    """No token, a wrong one and half of one are 401, and nothing of the kind goes through."""
    for value in ("", "Bearer", "Bearer " + "0" * 64, f"Bearer {outside.token[:-1]}", f"Basic {outside.token}"):
        assert error(outside.predict(Authorization=value), 401) == "UNAUTHORIZED"
    reply = requests.post(f"{outside.url}/predictions/behind", data=b"x", verify=str(outside.cert), timeout=60)
    assert error(reply, 401) == "UNAUTHORIZED"
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert front.tokens is not None
    assert front.tokens.stat().st_mode & 0o077 == 0, "others can read the tokens"
    with pytest.raises(DeployError, match="tester has a token already"):
        add_token(front.tokens, "tester")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/models", "/models/behind", "/workflows", "/wfpredict/behind", "/api-description", "/ping"),
        *("/metrics", "/invocations", "/predictions", "/predictions/", "/v1/models/behind:predict", "/token"),
        *(
            "/v2/models/behind/infer",
            "/explanations/behind",
            "/predictions/behind/1.0/x",
            "//predictions/behind",
        ),
        *("/predictions/../models", "/predictions/..%2fmodels", "/predictions/%2e%2e/models", "/./models"),
        *("/predictions/behind/../../models", "/predictions/behind%2f..%2f..%2fmodels", "/predictions//models"),
        *(
            "/predictions/behind%00",
            "/predictions/behind%0d%0aX:y",
            "/PREDICTIONS/x",
        ),
        *("/predictions/behind/1.0/../../../models?url=file:///etc/passwd", "/%70ing", "/predictions/.hidden"),
        *(
            "/predictions/behind\\..\\models",
            "/health/",
            "/health/../models",
            "/predictions/behind%252f..%252fmodels",
        ),
    ],
)
def test_nothing_else_is_there(outside: Outside, path: str) -> None:
    """The management API, workflows, metrics, docs and tricks with the path end at nginx, with 404 or 400."""
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        answer = outside.raw(
            outside.head(f"{method} {path} HTTP/1.1", "Content-Length: 0", "Connection: close")
        )
        assert status_of(answer) in (400, 404), answer
        assert b'"error"' in answer


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/models", 404),
        ("http://127.0.0.1:8081/models", 404),
        ("file:///etc/passwd", 400),
        ("*", 400),
        ("localhost:8081", 400),
    ],
)
def test_absolute_addresses(outside: Outside, target: str, status: int) -> None:
    """Nginx is no proxy to elsewhere: of an absolute address only the path counts."""
    assert status_of(outside.raw(outside.head(f"GET {target} HTTP/1.1", "Connection: close"))) == status
    assert status_of(outside.raw(outside.head("CONNECT localhost:8081 HTTP/1.1"))) in (400, 405)


def test_methods(outside: Outside) -> None:
    """Other methods than those that do something are 405 and name these."""
    url, verify = f"{outside.url}/predictions/behind", str(outside.cert)
    for method in ("GET", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
        reply = requests.request(method, url, verify=verify, timeout=60)
        assert error(reply, 405) == "METHOD_NOT_ALLOWED"
        assert reply.headers["Allow"] == "POST, PUT"


def test_health(outside: Outside) -> None:
    """A load balancer needs no token; it can ask, and do nothing else."""
    reply = requests.get(f"{outside.url}/health", verify=str(outside.cert), timeout=60)
    assert (reply.status_code, reply.json()) == (200, {"status": "Healthy"})
    assert error(requests.post(f"{outside.url}/health", verify=str(outside.cert), timeout=60), 405)


def test_an_unknown_model(outside: Outside) -> None:
    """TorchServe's own words for a model or version that is not there are put into the product's form."""
    for path in ("/predictions/other", "/predictions/behind/9.9"):
        assert error(outside.predict(path=path), 404) == "MODEL_NOT_FOUND"


@pytest.mark.parametrize("status", [400, 413, 415, 422, 500, 503])
def test_the_handlers_own_errors_stay(outside: Outside, status: int) -> None:
    """What the handler says of a clip, with its reasons, comes through as it is; also when to ask again."""
    reply = outside.predict(f"status {status}".encode())
    assert error(reply, status) == "OWN"
    assert reply.json()["error"]["message"] == 'ä"\n$host'
    assert reply.json()["request_id"] == "its own"
    assert reply.headers.get("Retry-After") == ("7" if status == 503 else None)


@pytest.mark.parametrize("status", [403, 500, 503, 507])
def test_torchserves_own_errors_do_not(outside: Outside, status: int) -> None:
    """That a worker died, has no memory or no room is 503 in the product's form: ask again."""
    reply = outside.predict(f"torchserve {status}".encode())
    assert error(reply, 503) == "UNAVAILABLE"
    assert reply.headers["Retry-After"] == "1"


def test_a_body_over_the_limit(outside: Outside) -> None:
    """It is refused by its Content-Length before it is sent, and a chunked one when it gets there."""
    assert error(outside.predict(b"x" * (BODY_LIMIT + 1)), 413) == "BODY_TOO_LARGE"
    start = outside.head("POST /predictions/behind HTTP/1.1", f"Content-Length: {10**12}", "Connection: close")
    assert status_of(outside.raw(start)) == 413
    endless = outside.head("POST /predictions/behind HTTP/1.1", "Transfer-Encoding: chunked")
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    answer = outside.raw(endless, *[chunk] * 3)
    assert status_of(answer) == 413
    assert b'"BODY_TOO_LARGE"' in answer
    answer = outside.raw(endless, b"4\r\nabcdX")
    assert status_of(answer) == 400
    assert b'"BAD_REQUEST"' in answer


SMUGGLED = b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: identity, chunked",),
        ("Transfer-Encoding : chunked", "Content-Length: 4"),
        ("Transfer-Encoding:\x0bchunked", "Content-Length: 4"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Content-Length: 4", "Content-Length: 4"),
        ("Content-Length: +4",),
        ("Content-Length: 0x4",),
        ("Content-Length: -1",),
        ("Content-Length: 4 4",),
    ],
)
def test_smuggling(outside: Outside, headers: tuple[str, ...]) -> None:
    """Two opinions on where a body ends: refused, and nothing hidden in it is answered."""
    answer = outside.raw(outside.head("POST /predictions/behind HTTP/1.1", *headers) + b"0\r\n\r\n" + SMUGGLED)
    first, *more = [part for part in answer.split(b"HTTP/1.1 ") if part]
    assert int(first[:3]) in (400, 501), answer
    assert not [part for part in more if part.startswith(b"200")], answer


def test_a_pipeline_reaches_only_what_is_allowed(outside: Outside) -> None:
    """Requests sent in one piece are each looked at: the second, for the management API, is refused."""
    clip = outside.head("POST /predictions/behind HTTP/1.1", "Content-Length: 4") + b"clip"
    answer = outside.raw(clip + outside.head("GET /models HTTP/1.1", "Connection: close"))
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ") if part] == [b"200", b"404"]


def test_malformed_requests(outside: Outside) -> None:
    """HTTP/0.9, headers too large or too many, and bytes that are no HTTP are refused or cut off."""
    assert b"Healthy" not in outside.raw(b"GET /health\r\n")
    assert status_of(outside.raw(outside.head("GET /health HTTP/1.1", "X: " + "y" * 40_000))) in (0, 400, 431)
    many = [f"X-{number}: {'y' * 100}" for number in range(1000)]
    assert status_of(outside.raw(outside.head("GET /health HTTP/1.1", *many))) in (0, 400, 431)
    assert status_of(outside.raw(outside.head("GET /" + "a" * 40_000 + " HTTP/1.1"))) in (0, 400, 414)
    assert status_of(outside.raw(b"\x00\x01\x02\x03" * 64 + b"\r\n\r\n")) in (0, 400)
    assert status_of(outside.raw(outside.head("GET /health HTTP/3.7"))) in (400, 505)
    with socket.create_connection(("127.0.0.1", outside.port), 10) as plain:  # no TLS
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"Healthy" not in plain.recv(4096)


def test_half_a_million_fields(outside: Outside) -> None:
    """A form of 500,000 fields is refused by its size; as many as fit are just bytes."""
    fields = b"".join(b"a%d=1&" % number for number in range(500_000))
    assert len(fields) > BODY_LIMIT
    kind = "application/x-www-form-urlencoded"
    assert error(outside.predict(fields, **{"Content-Type": kind}), 413) == "BODY_TOO_LARGE"
    reply = outside.predict(fields[:BODY_LIMIT], **{"Content-Type": kind})
    assert (reply.json()["bytes"], reply.json()["fields"]) == (BODY_LIMIT, 1)


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


def test_the_client(
    front: Front, motion_server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through nginx too: labels, a timeline, a probe by a clip alone; what it keeps inside is said so."""
    assert front.cert is not None
    port = free_ports("127.0.0.1")
    mine = replace(
        front,
        listen=f"127.0.0.1:{port}",
        tokens=tmp_path / "tokens",
        config=motion_server.run_dir / "config.properties",
        run_dir=tmp_path / "run",
        log_dir=tmp_path / "logs",
    )
    token = add_token(tmp_path / "tokens", "client")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(front.cert))
    clip = random_clip(5, "moving left", "libx264", size=(320, 240), fps=30, seconds=4, difficulty=0.0)
    with nginx(mine, tmp_path):
        client = ActionClient(f"https://localhost:{port}", model="motion", token=token)
        assert client.classify(clip.data).label == "moving left"
        assert {segment.label for segment in client.timeline(clip.data).segments} == {"moving left"}
        assert probe(client, 60, named=True).ready
        # On port 443, which an address leaves out, there is nothing to tell the management address from.
        monkeypatch.setattr(client._management, "_address", None)
        assert probe(client, 60, named=True).ready
        assert "management address" in probe(client, 60, named=False).message
        with pytest.raises(Refused) as refused:
            client.describe()
        assert refused.value.code == "NO_MANAGEMENT"
        with pytest.raises(Refused) as refused:
            ActionClient(f"https://localhost:{port}", model="motion", token="guessed").classify(clip.data)
        assert refused.value.code == "UNAUTHORIZED"


def test_nobody_behind(front: Front, tmp_path: Path) -> None:
    """Where no server runs, clients are told so in the product's form, at once."""
    tokens, port = tmp_path / "tokens", free_ports("127.0.0.1")
    token = add_token(tokens, "tester")
    alone = replace(
        front,
        tokens=tokens,
        listen=f"127.0.0.1:{port}",
        port=free_ports("127.0.0.1"),
        run_dir=tmp_path / "n",
        log_dir=tmp_path,
    )
    with nginx(alone, tmp_path):
        assert front.cert is not None
        outside = Outside(port, front.cert, token, "", tmp_path)
        reply = outside.predict()
        assert error(reply, 503) == "UNAVAILABLE"
        assert reply.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    "change",
    [{"server_name": "a; include /etc/passwd"}, {"listen": "80;"}, {"cert": Path("a b")}, {"key": None}],
)
def test_values_that_would_change_the_configuration(front: Front, change: dict[str, str | Path | None]) -> None:
    """A value that ends the directive it stands in is refused."""
    with pytest.raises(DeployError):
        render(replace(front, **change))  # type: ignore[arg-type]
