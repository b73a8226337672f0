"""Promise: through the nginx in front, clips get their labels, and errors their reasons."""

from __future__ import annotations

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
from tests.helpers_nginx import Outside, error, nginx

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
