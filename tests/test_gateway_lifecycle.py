"""Promise: the gateway starts with its server, comes back when it dies, and ends after the last answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from deploy import gateway
from deploy import server as deploy_server
from deploy.processes import ServerProcess
from tests.conftest import pack
from tests.helpers_supervisor import DEADLINE_SECONDS, POLICY, eventually
from tests.test_server_lifecycle import Deploy, gone

pytestmark = pytest.mark.server

PATIENT = """
import os, pathlib, time

class Patient:
    def initialize(self, context): pass
    def handle(self, data, context):
        body = bytes(data[0].get("body") or data[0].get("data") or b"")
        if body.startswith(b"wait "):
            pathlib.Path(body[5:].decode() + ".begun").touch()
            while not os.path.exists(body[5:].decode()):
                time.sleep(0.05)
        seen = sorted(name for name in os.environ if name.startswith(("GATEWAY_", "DATABASE_URL", "FETCH")))
        return [{"predictions": [{"label": "patient", "score": 1.0}], "seen": seen} for _ in data]
"""
ENVIRONMENT = {"GATEWAY_WEBHOOK_SECRET": "whsec_c2VjcmV0", "FETCH": "https://clips.example.org/"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("gateway") / "model_store"
    pack("patient", PATIENT, store)
    return store


@pytest.fixture
def deploy(tmp_path: Path, store: Path) -> Iterator[Deploy]:
    deploy = Deploy(tmp_path, store)
    yield deploy
    deploy_server.stop(deploy.run_dir, 0.0)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Deploy]:
    """A server and its gateway, under a supervisor."""
    up = Deploy(tmp_path_factory.mktemp("up"), store)
    started = up("start", "--gateway", "--gateway-port", "0", **ENVIRONMENT)
    assert started.returncode == 0, started.stderr
    assert beside(up).url in started.stdout
    yield up
    deploy_server.stop(up.run_dir, 0.0)


def beside(deploy: Deploy) -> gateway.Gateway:
    found = gateway.load(deploy.run_dir)
    assert found is not None
    return found


def answers(deploy: Deploy) -> bool:
    found = gateway.load(deploy.run_dir)
    return found is not None and found.process.alive() and gateway.answers(found, 2.0)


def test_it_stands_beside_the_server(up: Deploy) -> None:
    """It answers for the server, `status` shows it, and the engine gets none of its secrets."""
    reply = requests.post(f"{beside(up).url}/predictions/patient", data=b"clip", timeout=60)
    assert reply.json() == {"predictions": [{"label": "patient", "score": 1.0}], "seen": []}
    status = up("status")
    assert status.returncode == 0, status.stdout
    assert f"gateway {beside(up).url}, pid {beside(up).process.pid}" in status.stdout
    refused = requests.post(f"{beside(up).url}/predictions/patient", data=bytes(104_857_601), timeout=60)
    assert refused.json()["error"]["code"] == "BODY_TOO_LARGE", "it does not know config.properties' limit"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_it_comes_back(up: Deploy, signum: signal.Signals) -> None:
    """One that is killed is replaced at the same address, one that is stopped goes on; so does the server."""
    old, server = beside(up), up.state()
    os.kill(old.process.pid, signum)
    killed = signum is signal.SIGKILL
    eventually(lambda: (beside(up).process != old.process) is killed and answers(up), "it stays down")
    assert beside(up).url == old.url
    assert up.state() == server
    said = (up.home / "logs" / "supervisor.log").read_text()
    assert ("Starting the gateway anew: it is gone" if killed else "the gateway (pid") in said


def test_one_that_hangs(tmp_path: Path) -> None:
    """One that answers nobody is replaced after a time, and not before; while it is stopped no time counts."""
    policy = replace(POLICY, silent_gateway=1.0, call=0.1, stopped=600.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, subprocess.Popen(["sleep", "600"]) as process:
        # Connections are taken, and that is all.
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        deaf = gateway.Gateway(ServerProcess.of(process.pid), url, (), str(tmp_path), console=False)
        keeper = gateway.Keeper(tmp_path, policy)
        assert keeper._fault(deaf) == ""
        eventually(lambda: "no answer for" in keeper._fault(deaf), "nobody sees it")
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: keeper._fault(deaf) == "", "it counts")
        process.kill()
        process.wait()
        assert keeper._fault(deaf) == "it is gone"


def in_background(ask: Callable[[], requests.Response]) -> tuple[threading.Thread, list[requests.Response]]:
    replies: list[requests.Response] = []
    thread = threading.Thread(target=lambda: replies.append(ask()))
    thread.start()
    return thread, replies


def test_stop_drains(deploy: Deploy, tmp_path: Path) -> None:
    """`stop` refuses new requests at once, answers those in flight, and leaves no process, port or file."""
    started = deploy("start", "--gateway", "--gateway-port", "0", "--no-supervisor")
    assert started.returncode == 0, started.stderr
    gateway_before, family = beside(deploy), deploy.family()
    go_on = tmp_path / "go on"
    url = f"{gateway_before.url}/predictions/patient"
    thread, replies = in_background(
        lambda: requests.post(url, data=f"wait {go_on}".encode(), timeout=DEADLINE_SECONDS)
    )
    eventually(lambda: Path(f"{go_on}.begun").exists(), "the request did not arrive")
    stop = subprocess.Popen(deploy.command("stop"), stdout=subprocess.PIPE, text=True)

    def refuses() -> bool:
        host, port = gateway_before.url.removeprefix("http://").split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) != 0

    eventually(refuses, "it still takes connections")
    assert not replies
    assert stop.poll() is None
    go_on.touch()
    thread.join(DEADLINE_SECONDS)
    assert replies[0].json()["predictions"][0]["label"] == "patient"
    assert stop.communicate(timeout=DEADLINE_SECONDS)[0] == "Stopped.\n"
    assert not gateway_before.process.alive()
    assert gone(family)
    assert not (deploy.run_dir / "gateway.json").exists()


def test_one_that_outlived_its_server(deploy: Deploy) -> None:
    """A gateway that does not answer is shown; one whose server was killed makes room for the next."""
    assert deploy("start", "--gateway", "--gateway-port", "0", "--no-supervisor").returncode == 0
    old = beside(deploy)
    os.kill(old.process.pid, signal.SIGSTOP)
    status = deploy("status")
    os.kill(old.process.pid, signal.SIGCONT)
    assert status.returncode == 1, "it does not answer"
    assert "does not answer" in status.stdout
    for process in deploy.family():
        process.kill()
    eventually(lambda: not deploy.state().process.alive(), "the server is still there")
    port = old.url.rsplit(":", 1)[1]
    again = deploy("start", "--gateway", "--gateway-port", port, "--no-supervisor")
    assert again.returncode == 0, again.stderr
    assert beside(deploy).url == old.url
    assert not old.process.alive()
    assert answers(deploy)


def test_without_it(deploy: Deploy) -> None:
    """Where it is not asked for, there is none, and `status` is content."""
    assert deploy("start").returncode == 0
    assert gateway.load(deploy.run_dir) is None
    status = deploy("status")
    assert status.returncode == 0
    assert "gateway" not in status.stdout


def test_one_that_cannot_start(deploy: Deploy) -> None:
    """Where its port is taken, one line says so, and nothing of the server stays."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = deploy("start", "--gateway", "--gateway-port", str(port))
    assert result.returncode == 1
    (said,) = result.stderr.splitlines()
    assert "the gateway did not start" in said
    assert f"port {port}: Address already in use" in said
    assert deploy_server.load_state(deploy.run_dir) is None
    assert deploy("status").returncode == 3


def test_in_the_foreground(deploy: Deploy) -> None:
    """`--foreground` keeps both, and a signal ends both."""
    process = subprocess.Popen(
        deploy.command("start", "--foreground", "--gateway", "--gateway-port", "0"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: answers(deploy), "it does not start")
        found, server = beside(deploy), deploy.state()
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
        assert not found.process.alive()
        assert not server.process.alive()
    finally:
        process.kill()
        process.wait()


def test_a_damaged_file(tmp_path: Path) -> None:
    """A damaged state file of it is as none: nothing else is touched for its sake."""
    for text in ("", "{", '{"process": {"pid": 1}}', '{"process": 3, "command": []}'):
        (tmp_path / "gateway.json").write_text(text)
        assert gateway.load(tmp_path) is None
        gateway.stop(tmp_path, 0.0)
        assert not (tmp_path / "gateway.json").exists()
