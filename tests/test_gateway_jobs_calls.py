"""Promise: who asks to be called when a job has ended is called, signed, until it answers; nobody else is."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from actionrec_gateway.jobs import webhooks
from tests.helpers_gateway import RunningGateway, running
from tests.helpers_jobs import CountingEngine, counting, ended, until

pytestmark = pytest.mark.server

SECRET = "whsec_" + base64.b64encode(b"a secret of a test, of 32 bytes.").decode()


class Called:
    """A server that is called.

    Args:
        status: what it answers, from the number of calls so far.
    """

    def __init__(self, status: Callable[[int], int]) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        called = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                called.calls.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status(len(called.calls)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def called(status: Callable[[int], int] = lambda _: 204) -> Iterator[Called]:
    server = Called(status)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[CountingEngine]:
    with counting() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, engine: CountingEngine) -> Iterator[RunningGateway]:
    """One that may call private addresses."""
    home = tmp_path_factory.mktemp("calls")
    secret = {"GATEWAY_WEBHOOK_SECRET": SECRET}
    with running(home, engine.url, engine.url, "--fetch-private", "1", environment=secret) as found:
        yield found


def sent(gateway: RunningGateway, webhook: str) -> requests.Response:
    return gateway.post("/jobs", files={"video": b"video"}, data={"webhook": webhook})


def test_the_end_of_a_job_is_called_with_a_signature(gateway: RunningGateway) -> None:
    """A call has the job, and a signature that the standard's own library accepts."""
    with called() as server:
        job = sent(gateway, server.url).json()
        ended(gateway.url, job["id"])
        until(lambda: server.calls)
        headers, body = server.calls[0]
    event: dict[str, Any] = Webhook(SECRET).verify(body, headers)
    assert (event["type"], event["data"]["id"], event["data"]["state"]) == ("job.done", job["id"], "done")
    assert headers["webhook-id"] == f"{job['id']}.done"


def test_a_cancelled_and_a_failed_job_are_called_too(gateway: RunningGateway, engine: CountingEngine) -> None:
    """Every end of a job is an event."""
    with called() as server:
        engine.refuse = lambda _: 422
        ended(gateway.url, sent(gateway, server.url).json()["id"])
        engine.refuse = lambda _: 0
        engine.let_pass.clear()
        job = sent(gateway, server.url).json()["id"]
        requests.delete(f"{gateway.url}/jobs/{job}", timeout=10)
        engine.let_pass.set()
        until(lambda: len(server.calls) == 2)
        types = {json.loads(body)["type"] for _, body in server.calls}
    assert types == {"job.failed", "job.cancelled"}


def test_a_call_is_made_again_until_it_is_answered(gateway: RunningGateway) -> None:
    """A call that is refused is made again with the same id, also by the gateway's next life; a redirect is not
    followed.
    """
    with called(lambda number: 302 if number == 1 else 204) as server:
        job = sent(gateway, server.url).json()["id"]
        until(lambda: len(server.calls) == 2)
        ids = {headers["webhook-id"] for headers, _ in server.calls}
    assert ids == {f"{job}.done"}
    assert tuple(sorted(webhooks.WAITS_SECONDS)) == webhooks.WAITS_SECONDS


def test_a_server_that_wants_no_more_calls_gets_none(gateway: RunningGateway) -> None:
    """After 410 no more calls are made."""
    with called(lambda _: 410) as server, called() as other:
        ended(gateway.url, sent(gateway, server.url).json()["id"])
        until(lambda: server.calls)
        ended(gateway.url, sent(gateway, other.url).json()["id"])
        until(lambda: other.calls)
        reply = gateway.get("/jobs?limit=1")
        assert reply.status_code == 200
        assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("webhook", "code"),
    [
        ("http://127.0.0.1:9/", "FETCH_REFUSED"),
        ("http://localhost:9/", "FETCH_REFUSED"),
        ("http://[::ffff:10.0.0.1]/", "FETCH_REFUSED"),
        ("http://169.254.169.254/", "FETCH_REFUSED"),
        ("http://2130706433/", "BAD_URL"),
        ("s3://bucket/key", "BAD_URL"),
        ("file:///etc/passwd", "BAD_URL"),
        ("https://user:password@example.org/", "CREDENTIALS_IN_URL"),
        ("https://example.org/?token=abcdef", "CREDENTIALS_IN_URL"),
    ],
)
def test_private_addresses_are_not_called(public_only: RunningGateway, webhook: str, code: str) -> None:
    """An address of this machine or its network is refused when the job is made, as is one with a secret."""
    reply = sent(public_only, webhook)
    assert reply.json()["error"]["code"] == code
    assert reply.status_code in (400, 403)


@pytest.fixture(scope="module")
def public_only(tmp_path_factory: pytest.TempPathFactory, engine: CountingEngine) -> Iterator[RunningGateway]:
    """One that may call public addresses only."""
    secret = {"GATEWAY_WEBHOOK_SECRET": SECRET}
    with running(tmp_path_factory.mktemp("public"), engine.url, engine.url, environment=secret) as found:
        yield found


def test_a_wrong_secret_is_told_at_the_start(tmp_path: Path, engine: CountingEngine) -> None:
    """A gateway whose secret can sign nothing does not start."""
    with (
        pytest.raises(AssertionError, match="no secret"),
        running(tmp_path, engine.url, engine.url, environment={"GATEWAY_WEBHOOK_SECRET": "whsec_"}),
    ):
        pass
