"""Promise: any body, form, header and option gets 200 or an answer that is documented; nobody else pays."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.management import get_models
from deploy.nginx import Front
from tests.answers import FRONT, HANDLER, TORCHSERVE_FORMS
from tests.conftest import RunningServer
from tests.helpers_nginx import error, variant
from tests.hostile import REFUSED_BY_SERVER, Refused
from tests.odd_requests import CLIP, bodies, content_types, headers

pytest_plugins = ("tests.fixtures_nginx",)


@dataclass(frozen=True)
class Way:
    """A way to the model."""

    port: int
    cert: Path | None
    token: str

    def ask(
        self, body: bytes, content_type: str | None, more: dict[str, str], method: str
    ) -> tuple[int, str, bytes]:
        """Send a request as it is, with no library that tidies it up: status, Content-Type and body."""
        if self.cert is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=100)
        else:
            context = ssl.create_default_context(cafile=str(self.cert))
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=100, context=context)
        try:
            connection.putrequest(method, "/predictions/motion", skip_accept_encoding=True)
            connection.putheader("Content-Length", str(len(body)))
            connection.putheader("Authorization", f"Bearer {self.token}")
            if content_type is not None:
                connection.putheader("Content-Type", content_type.encode("latin1"))
            for name, value in more.items():
                connection.putheader(name, value.encode("latin1"))
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, reply.headers.get("Content-Type", ""), reply.read()
        finally:
            connection.close()


def check_reply(status: int, kind: str, content: bytes, allowed: frozenset[tuple[int, str]]) -> None:
    """It is a good one, or an error that is allowed, in the project's form."""
    reply = json.loads(content.decode())
    if status == 200:
        assert reply["predictions"]
        return
    assert kind == "application/json"
    assert set(reply) == {"error", "request_id"}, reply
    assert set(reply["error"]) == {"code", "status", "message", "hint"}
    assert reply["error"]["status"] == status
    assert (status, reply["error"]["code"]) in allowed, reply
    assert all(isinstance(text, str) and text for text in (reply["error"]["message"], reply["error"]["hint"]))
    assert reply["request_id"]


def beside_a_good_one(way: Way, ask: Callable[[], tuple[int, str, bytes]]) -> tuple[int, str, bytes]:
    """A request's reply; a good clip, sent at the same time, and one sent after it have their right answer."""
    with ThreadPoolExecutor(2) as pool:
        neighbour = pool.submit(way.ask, CLIP, None, {}, "PUT")
        reply = ask()
        for status, _, content in (neighbour.result(), way.ask(CLIP, None, {}, "PUT")):
            assert (status, json.loads(content)["predictions"][0]["label"]) == (200, "moving left")
    return reply


def workers(server: RunningServer) -> list[int]:
    found = get_models(server.management_url, server.state.models)
    return [worker.pid for model in found for worker in model.workers]


ask_anything = given(
    body=bodies, content_type=st.none() | content_types, more=headers, method=st.sampled_from(["POST", "PUT"])
)
a_few = settings(
    max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def steady(motion_server: RunningServer) -> Iterator[None]:
    """The workers are the same processes after a test."""
    before = workers(motion_server)
    yield
    assert workers(motion_server) == before


@pytest.fixture(scope="module")
def direct(motion_server: RunningServer) -> Way:
    """To TorchServe itself."""
    return Way(int(motion_server.inference_url.rsplit(":", 1)[1]), None, "")


@pytest.fixture(scope="module")
def fronted(
    front: Front, motion_server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Way]:
    """Through nginx."""
    config = motion_server.run_dir / "config.properties"
    with variant(front, tmp_path_factory.mktemp("fronted"), config=config) as outside:
        yield Way(outside.port, outside.cert, outside.token)


@ask_anything
@a_few
def test_any_request_to_torchserve(
    direct: Way,
    body: bytes,
    content_type: str | None,
    more: dict[str, str],
    method: str,
) -> None:
    """TorchServe alone says 403 or 500 of forms that Netty cannot take apart; all else has our answer."""
    status, kind, content = beside_a_good_one(direct, lambda: direct.ask(body, content_type, more, method))
    types = f"{content_type} {more.get('content-type', '')}".lower()
    if status in TORCHSERVE_FORMS and ("multipart/" in types or "urlencoded" in types):
        assert set(json.loads(content)) == {"code", "type", "message"}
        return
    check_reply(status, kind, content, HANDLER)


@ask_anything
@a_few
def test_any_request_through_nginx(
    fronted: Way,
    body: bytes,
    content_type: str | None,
    more: dict[str, str],
    method: str,
) -> None:
    """Through nginx there is no answer that is not the project's own, and none of 500."""
    status, kind, content = beside_a_good_one(fronted, lambda: fronted.ask(body, content_type, more, method))
    assert status != 500
    check_reply(status, kind, content, HANDLER | FRONT)


@pytest.mark.parametrize("case", REFUSED_BY_SERVER, ids=lambda case: case.name)
def test_broken_requests_through_nginx(fronted: Way, case: Refused) -> None:
    """What TorchServe itself answers with 403 and 500 has an answer of the project's own through nginx."""
    with requests.Session() as session:
        session.trust_env = False  # it may name other certificates
        session.headers["Authorization"] = f"Bearer {fronted.token}"
        session.verify = str(fronted.cert)
        reply = case.ask(f"https://localhost:{fronted.port}", session)
    assert (error(reply, case.through_nginx[0])) == case.through_nginx[1]


@pytest.mark.parametrize("options", [{}, {"top_k": "2"}])
def test_each_way_to_write_a_request_through_nginx(fronted: Way, options: dict[str, str]) -> None:
    """A file, a form and JSON have the same labels, whatever type they are said to be."""
    form = requests.Request("POST", "http://localhost", data=options, files={"video": ("a", CLIP)}).prepare()
    assert isinstance(form.body, bytes)
    document = json.dumps({"video": base64.b64encode(CLIP).decode(), **options}).encode()
    for body in (form.body, document):
        for kind in (
            form.headers["Content-Type"],
            "application/json",
            "application/x-www-form-urlencoded",
            None,
        ):
            status, _, content = fronted.ask(body, kind, {}, "POST")
            labels = json.loads(content)["predictions"]
            assert (status, labels[0]["label"], len(labels)) == (
                200,
                "moving left",
                int(options.get("top_k", 5)),
            )
