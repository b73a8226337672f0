"""Promise: through the nginx in front, nothing of the server can be reached but predictions, with a token."""

from __future__ import annotations

import socket

import pytest
import requests

from deploy.nginx import Front, add_token
from deploy.preflight import DeployError
from tests.helpers_nginx import BODY_LIMIT, Outside, error, status_of

pytest_plugins = ("tests.fixtures_nginx",)


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
