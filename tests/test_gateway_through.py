"""Promise: through the gateway a request is answered as by TorchServe, and refused in the project's form."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import requests
from actionrec.errors import ClipError

from actionrec_gateway.settings import Settings
from actionrec_gateway.torchserve import TorchServe
from motion.clips import random_clip
from testing.media import encode, textured_frames
from tests import helpers_http
from tests.conftest import DEADLINE_SECONDS, RunningServer
from tests.helpers_gateway import MAX_BODY_BYTES, Guarded, RunningGateway, running
from tests.hostile import REFUSED_BY_SERVER, Refused

pytest_plugins = ("tests.fixtures_gateway",)
pytestmark = pytest.mark.server

CLIP = random_clip(11, "moving left").data
PATH = "/predictions/motion"
TIMES = re.compile(rb'"timings_ms": ?\{[^}]*\}')


def same(body: bytes) -> bytes:
    """A reply without what differs from time to time."""
    shorter, count = TIMES.subn(b"", body)
    assert count == 1
    return shorter


def error_of(reply: requests.Response) -> tuple[int, str]:
    """Status and code of a refusal, whose form is checked."""
    found = reply.json()
    assert found["error"].keys() == {"code", "status", "message", "hint"}
    assert found["error"]["status"] == reply.status_code
    assert found["error"]["message"]
    assert found["error"]["hint"]
    assert found["request_id"] == reply.headers["x-request-id"]
    return reply.status_code, found["error"]["code"]


def test_the_same_bytes(gateway: RunningGateway, motion_server: RunningServer) -> None:
    """A file, a form and JSON are answered with the bytes that TorchServe itself answers."""
    direct = motion_server.state.predict_url("motion")
    ways = (
        {"data": CLIP},
        {"files": {"video": CLIP}, "data": {"top_k": "3"}},
        {"json": {"video": base64.b64encode(CLIP).decode(), "embedding": "base64"}},
    )
    for way in ways:
        behind = requests.post(direct, timeout=DEADLINE_SECONDS, **way)
        reply = requests.post(gateway.url + PATH, timeout=DEADLINE_SECONDS, **way)
        assert behind.status_code == reply.status_code == 200
        assert same(reply.content) == same(behind.content)
        assert reply.headers["content-type"] == "application/json"


def test_options_in_the_address(gateway: RunningGateway) -> None:
    """Options in the address are options of the request, whatever its body is."""
    video = encode(textured_frames(160, 120, 150))
    address = f"{PATH}?top_k=2&start_seconds=1.5"
    ways = (
        {"data": video},
        {"data": iter([video[:100], video[100:]])},  # in chunks, without a length
        {"files": {"video": video}},
        {"json": {"video": base64.b64encode(video).decode()}},
    )
    for way in ways:
        reply = requests.put(gateway.url + address, timeout=DEADLINE_SECONDS, **way)
        assert reply.status_code == 200, reply.text
        assert len(reply.json()["predictions"]) == 2
        assert reply.json()["clip"]["start_seconds"] == 1.5
    assert error_of(gateway.post(f"{PATH}?topk=2", CLIP)) == (400, "UNKNOWN_OPTION")
    assert error_of(gateway.post(f"{PATH}?top_k=x", CLIP)) == (400, "BAD_OPTION")


def test_versions_and_explanations(gateway: RunningGateway) -> None:
    """A version in the address and the route of explanations mean what they mean at TorchServe."""
    assert gateway.post(f"{PATH}/1.0", CLIP).status_code == 200
    assert "explanation" in gateway.post("/explanations/motion", CLIP).json()
    assert error_of(gateway.post(f"{PATH}/9.9", CLIP)) == (404, "MODEL_NOT_FOUND")
    assert error_of(gateway.post("/predictions/nobody", CLIP)) == (404, "MODEL_NOT_FOUND")


def test_ids(gateway: RunningGateway) -> None:
    """An id is made where there is none, kept where it is a proper one, and the same in header and error."""
    made = {gateway.post(PATH, b"").json()["request_id"] for _ in range(3)}
    assert len(made) == 3
    kept = gateway.post(PATH, b"", headers={"X-Request-ID": "ticket-17/a"})
    assert error_of(kept) == (400, "EMPTY_BODY")
    assert kept.headers["x-request-id"] == "ticket-17/a"
    assert (
        gateway.post(PATH, CLIP, headers={"X-Request-ID": "ticket-18"}).headers["x-request-id"] == "ticket-18"
    )
    for odd in ('"}', "a b", "x" * 129, "\u00e4"):
        reply = gateway.post(PATH, b"", headers={"X-Request-ID": odd.encode("latin-1")})
        assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-request-id"]), odd


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", PATH, 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", PATH, 405, "METHOD_NOT_ALLOWED"),
        ("OPTIONS", PATH, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/predictions/", 404, "NOT_FOUND"),
        ("POST", "/predictions/a%2Fb%2Fc", 404, "NOT_FOUND"),
        ("POST", "/predictions/..%2Fmodels", 404, "NOT_FOUND"),
        ("POST", "/models?url=http://127.0.0.1/x.mar", 404, "NOT_FOUND"),
        ("POST", "/health", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_what_is_not_there(gateway: RunningGateway, method: str, path: str, status: int, code: str) -> None:
    """Other addresses and methods are refused, and never reach the engine."""
    reply = requests.request(method, gateway.url + path, timeout=DEADLINE_SECONDS)
    assert error_of(reply) == (status, code)
    assert ("allow" in reply.headers) == (status == 405)
    assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


def test_heads(gateway: RunningGateway) -> None:
    """Load balancers that ask with HEAD have the status, and no body."""
    for path in ("/health", "/ready"):
        reply = requests.head(gateway.url + path, timeout=DEADLINE_SECONDS)
        assert (reply.status_code, reply.content) == (200, b"")


def test_too_large(gateway: RunningGateway) -> None:
    """A body over the engine's limit is refused in the project's form, whether it says its length or not."""

    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1_000_000 + 2):
            yield bytes(1_000_000)

    for data in (bytes(MAX_BODY_BYTES + 1), chunks()):
        reply = gateway.post(PATH, data)
        assert error_of(reply) == (413, "BODY_TOO_LARGE")
        assert str(MAX_BODY_BYTES) in reply.json()["error"]["message"]
    assert gateway.post(PATH, CLIP).status_code == 200


@pytest.mark.parametrize("case", REFUSED_BY_SERVER, ids=[case.name for case in REFUSED_BY_SERVER])
def test_hostile_requests(gateway: RunningGateway, case: Refused) -> None:
    """A request that is broken as a request has the answer here that it has through nginx."""
    with requests.Session() as session:
        assert error_of(case.ask(gateway.url, session)) == case.through_nginx


def test_a_video_by_its_address(motion_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An address in place of a video, in the query or in JSON, is fetched where that is allowed, only there."""
    home = tmp_path_factory.mktemp("fetched")
    (home / "clip.mp4").write_bytes(CLIP)
    (home / "form").write_bytes(b'--b\r\nContent-Disposition: form-data; name="video"\r\n\r\nx\r\n--b--\r\n')
    handler = partial(SimpleHTTPRequestHandler, directory=str(home))
    with (
        helpers_http.running(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as url,
        running(
            home / "gateway",
            motion_server.inference_url,
            motion_server.management_url,
            environment={"FETCH": f"{url}/clip.mp4,{url}/form", "GATEWAY_FETCH_PRIVATE": "1"},
        ) as gateway,
    ):
        clip = f"{url}/clip.mp4"
        direct = gateway.post(f"{PATH}?top_k=2", CLIP)
        for reply in (
            gateway.post(f"{PATH}?top_k=2&url={clip}"),
            gateway.post(PATH, json.dumps({"url": clip, "top_k": 2})),
            gateway.post(f"{PATH}?top_k=2", json.dumps({"url": clip})),
        ):
            assert same(reply.content) == same(direct.content)
        assert error_of(gateway.post(f"{PATH}?url={clip}", CLIP)) == (400, "TWO_VIDEOS")
        assert error_of(gateway.post(f"{PATH}?url={url}/form")) == (415, "NOT_A_VIDEO")
        assert error_of(gateway.post(f"{PATH}?url={url}/other"))[0] == 403
        assert error_of(gateway.post(PATH, json.dumps({"url": clip, 'top_k"': 2}))) == (400, "UNKNOWN_OPTION")
        assert error_of(gateway.post(PATH, json.dumps({"top_k": 2}))) == (400, "NO_VIDEO")


class AsTorchServe(BaseHTTPRequestHandler):
    """Answers with the status in the path, in one of TorchServe's own forms, or in the handler's.

    The handler's code says whose share it was, or which trace.
    """

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind, _, status = self.path.rsplit("/", 1)[1].partition("-")
        body = b""
        headers = {}
        if kind in ("own", "trace"):
            name = str(self.headers["X-Actionrec-Client" if kind == "own" else "Traceparent"])
            body = (
                b'{"error": {"code": "%s", "status": 503, "message": "m", "hint": "h"}, "request_id": "x"}'
                % (name.encode())
            )
            headers = {"X-Actionrec": "1", "Retry-After": "7", "Set-Cookie": "a=b", "Server": "x"}
        elif kind == "form":
            body = b'{"code": %s, "type": "ServiceUnavailableException", "message": "secret"}' % status.encode()
        self.send_response(int(status))
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:20])
        time.sleep(0.05)  # so that it comes in two pieces
        self.wfile.write(body[20:])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway before something that refuses as TorchServe does."""
    with (
        helpers_http.running(ThreadingHTTPServer(("127.0.0.1", 0), AsTorchServe)) as url,
        running(tmp_path_factory.mktemp("before"), url, url) as found,
    ):
        yield found


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ("form-400", 400, "BAD_REQUEST"),
        ("form-403", 503, "UNAVAILABLE"),
        ("form-404", 404, "MODEL_NOT_FOUND"),
        ("form-405", 405, "METHOD_NOT_ALLOWED"),
        ("form-408", 408, "REQUEST_TIMEOUT"),
        ("none-413", 413, "BODY_TOO_LARGE"),
        ("form-500", 503, "UNAVAILABLE"),
        ("none-500", 503, "UNAVAILABLE"),
        ("form-503", 503, "UNAVAILABLE"),
        ("form-507", 503, "UNAVAILABLE"),
        ("none-504", 504, "UPSTREAM_TIMEOUT"),
    ],
)
def test_torchserves_own_refusals(before: RunningGateway, sent: str, status: int, code: str) -> None:
    """Each of TorchServe's own statuses has its code here, as it has it behind nginx; its text stays inside."""
    reply = before.post(f"/predictions/{sent}", b"clip")
    assert error_of(reply) == (status, code)
    assert "secret" not in reply.text
    assert reply.headers.get("retry-after") == ("1" if status == 503 else None)


def test_the_handlers_own_refusals(before: RunningGateway) -> None:
    """They are passed on with their `Retry-After`; headers that are nobody's business are not."""
    reply = before.post("/predictions/own-503", b"clip", headers={"X-Actionrec-Client": "somebody else"})
    assert error_of(reply) == (
        503,
        "127.0.0.1",
    )  # the share of the address, not of a name that anybody can send
    assert reply.headers["retry-after"] == "7"
    assert not {"set-cookie", "server", "x-actionrec", "x-actionrec-error"} & {n.lower() for n in reply.headers}


def test_shares(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A request takes its share of the engine by its token's name."""
    tokens = guarded.gateway.home / "tokens"
    with (
        helpers_http.running(ThreadingHTTPServer(("127.0.0.1", 0), AsTorchServe)) as url,
        running(tmp_path_factory.mktemp("shares"), url, url, "--tokens", str(tokens)) as found,
    ):
        assert error_of(found.post("/predictions/own-503", b"x", headers=guarded.bob))[1] == "bob"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """An engine that a test plays by hand."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_SECONDS)
        yield server


def url_of(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    found = b""
    while mark not in found:
        chunk = connection.recv(65536)
        assert chunk, found
        found += chunk
    return found


def sent_by_hand(gateway: RunningGateway, head: bytes) -> socket.socket:
    place = urlsplit(gateway.url)
    connection = socket.create_connection((place.hostname, place.port), timeout=DEADLINE_SECONDS)
    connection.sendall(b"POST /predictions/m HTTP/1.1\r\nHost: x\r\n" + head)
    return connection


def test_both_ways_are_streamed(listening: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The engine has the first bytes before the last are sent, and the sender those of the reply."""
    with (
        running(
            tmp_path_factory.mktemp("streamed"),
            *(url_of(listening), url_of(listening), "--answer-seconds", "2"),
        ) as gateway,
        sent_by_hand(gateway, b"Content-Length: 10\r\n\r\nfirst") as sender,
        listening.accept()[0] as engine,
    ):
        head = read_until(engine, b"first")
        assert b"content-length: 10\r\n" in head.lower()
        assert b"application/octet-stream" in head
        time.sleep(2.5)  # a slow sender takes none of the engine's time for its answer
        sender.sendall(b" last")
        read_until(engine, b" last")
        engine.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nthis")
        read_until(sender, b"this")
        engine.sendall(b"that")
        read_until(sender, b"that")


def test_half_a_reply_is_no_reply(listening: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An engine that ends in the middle of a reply leaves a cut connection to the sender, not less text."""
    with running(tmp_path_factory.mktemp("half"), url_of(listening), url_of(listening)) as gateway:
        with sent_by_hand(gateway, b"Content-Length: 4\r\n\r\nclip") as sender:
            engine, _ = listening.accept()
            with engine:
                read_until(engine, b"clip")
                engine.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nthis\r\n")
                read_until(sender, b"this")
            rest = b""
            while chunk := sender.recv(65536):
                rest += chunk
            assert b"0\r\n\r\n" not in rest
        assert gateway.get("/health").status_code == 200


def test_a_sender_that_goes(listening: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where a sender goes before the end of a body, the engine's connection ends too: it has no clip."""
    with running(tmp_path_factory.mktemp("gone"), url_of(listening), url_of(listening)) as gateway:
        with sent_by_hand(gateway, b"Content-Length: 10\r\n\r\nfirst"):
            engine, _ = listening.accept()
            read_until(engine, b"first")
        with engine:
            engine.settimeout(DEADLINE_SECONDS)
            assert engine.recv(100) == b""
        assert gateway.get("/health").status_code == 200


def test_engines_that_do_not_answer(listening: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No engine, one that cuts the connection, and one that is silent for too long have their codes."""
    nobody = "http://127.0.0.1:1"
    with running(tmp_path_factory.mktemp("none"), nobody, nobody) as gateway:
        assert error_of(gateway.post(PATH, CLIP)) == (503, "UNAVAILABLE")
        assert error_of(gateway.get("/ready")) == (503, "UNAVAILABLE")
        assert gateway.get("/health").json() == {"status": "live"}

    url = url_of(listening)
    with running(tmp_path_factory.mktemp("silent"), url, url, "--answer-seconds", "3") as gateway:

        def cut() -> None:
            connection, _ = listening.accept()
            with connection:
                read_until(connection, b"clip")

        thread = threading.Thread(target=cut)
        thread.start()
        assert error_of(gateway.post("/predictions/m", b"clip")) == (503, "UNAVAILABLE")
        thread.join()
        assert error_of(gateway.post("/predictions/m", b"clip")) == (504, "UPSTREAM_TIMEOUT")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../workflows", "a/b", "a?b", "a#b", "a%2f", "\n", "\u00e4", "a" * 129]
)
def test_names_that_lead_elsewhere(name: str) -> None:
    """A model's name that would make another address of its own is that of no model, whoever asks for it."""

    async def ask() -> None:
        engine = TorchServe(Settings(engine="http://127.0.0.1:1", management="http://127.0.0.1:1"))
        try:
            answer = await engine.predict(name, b"clip", {}, request_id="x")
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "MODEL_NOT_FOUND")
            with pytest.raises(ClipError, match="MODEL_NOT_FOUND"):
                await engine.describe(name)
            with pytest.raises(ClipError, match="MODEL_NOT_FOUND"):
                await engine.describe("motion", name or "..")
        finally:
            await engine.close()

    asyncio.run(ask())
