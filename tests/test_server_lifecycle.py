"""What ``python -m deploy`` promises, kept with real servers and archives that need no torch model."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from deploy import server as deploy_server
from deploy.cause import true_cause
from deploy.config import load_config
from deploy.preflight import PORTS, DeployError, check_temporary_space, free_ports
from deploy.processes import runs
from tests.conftest import PROJECT, pack

pytestmark = pytest.mark.server

ECHO = """
import os, sys

class Echo:
    def initialize(self, context): pass
    def handle(self, data, context):
        seen = {name.lower(): os.environ.get(name) for name in ("PYTHONPATH", "GOMP_SPINCOUNT")}
        # In the form of a prediction, or the supervisor mends it.
        seen["predictions"] = [{"label": "echo", "score": 1.0}]
        return [{"pid": os.getpid(), "python": sys.executable, **seen} for _ in data]
"""
BROKEN = "import a_module_that_is_not_there\n\nclass Broken:\n    pass\n"
RAISES = """
class Raises:
    def initialize(self, context): raise ValueError("the weights are of another model")
    def handle(self, data, context): return data
"""


@dataclass(frozen=True)
class Deploy:
    """Runs ``python -m deploy`` for one server of its own."""

    home: Path
    store: Path

    @property
    def run_dir(self) -> Path:
        return self.home / "run"

    def __call__(self, command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(command, *arguments),
            cwd=PROJECT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def command(self, command: str, *arguments: str) -> list[str]:
        line = [sys.executable, "-m", "deploy", command, "--run-dir", str(self.run_dir)]
        if command == "start":
            line += ["--log-dir", str(self.home / "logs"), "--model-store", str(self.store)]
            line += [] if "--port" in arguments else ["--port", "0"]
        return [*line, *arguments]

    def state(self) -> deploy_server.State:
        state = deploy_server.load_state(self.run_dir)
        assert state is not None
        return state

    def family(self) -> list[psutil.Process]:
        """The JVM and the workers; one that has ended is none, though the JVM may not have noticed yet."""
        jvm = psutil.Process(self.state().process.pid)
        return [jvm, *(child for child in jvm.children(recursive=True) if runs(child))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("lifecycle") / "model_store"
    pack("echo", ECHO, store)
    return store


@pytest.fixture
def deploy(tmp_path: Path, store: Path) -> Iterator[Deploy]:
    deploy = Deploy(tmp_path, store)
    yield deploy
    deploy_server.stop(deploy.run_dir)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Deploy]:
    """A server that runs, with one worker; every test leaves it so."""
    up = Deploy(tmp_path_factory.mktemp("up"), store)
    started = up("start")
    assert started.returncode == 0, started.stderr
    yield up
    deploy_server.stop(up.run_dir)


def gone(processes: list[psutil.Process]) -> bool:
    """None of them runs; zombies that wait for the container's init to reap them do not count."""
    return not any(map(runs, processes))


def the_error(result: subprocess.CompletedProcess[str]) -> str:
    """All that a failed command said: one line."""
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_start_serves_and_stop_leaves_nothing(deploy: Deploy) -> None:
    """`start` returns when predictions work, `status` agrees, and `stop` leaves no process, port or file."""
    assert deploy("status").returncode == 3
    started = deploy("start", PYTHONPATH=str(PROJECT))
    assert started.returncode == 0, started.stderr
    state = deploy.state()
    assert f"curl -T clip.mp4 {state.predict_url('echo')}" in started.stdout

    url = deploy("url").stdout.strip()
    reply = requests.post(url, data=b"clip", timeout=10).json()
    assert reply["python"] == sys.executable
    assert str(PROJECT) not in reply["pythonpath"].split(":"), "the repository goes before the archive"
    assert reply["gomp_spincount"] == "5000", "threads of one worker spin on the cores of another"
    status = deploy("status")
    assert status.returncode == 0
    assert "READY" in status.stdout
    assert str(reply["pid"]) in status.stdout

    family = deploy.family()
    assert reply["pid"] in [process.pid for process in family]
    assert deploy("stop").returncode == 0
    assert gone(family)
    assert not Path(state.temp_dir).exists()
    assert deploy("status").returncode == 3
    again = deploy("stop")
    assert (again.returncode, again.stdout) == (0, "No server was running.\n")


def test_scale_there_and_back(up: Deploy) -> None:
    """`scale` returns when exactly so many workers are READY; no worker at all is not ready; 0 -> 1 revives."""
    for workers, ready in ((2, 0), (0, 1), (1, 0)):
        scaled = up("scale", "--workers", str(workers))
        assert scaled.returncode == 0, scaled.stderr
        assert len(up.family()) == 1 + workers
        assert up("status").returncode == ready
    assert "has no model other (it has: echo)" in the_error(up("scale", "--workers", "1", "--model", "other"))


def test_second_start_refuses(up: Deploy) -> None:
    """A second start for the same state is refused and leaves the first server alone."""
    before = up.state()
    assert "a server is already running at" in the_error(up("start"))
    assert up.state() == before
    assert up("status").returncode == 0


def test_start_after_a_crash(deploy: Deploy) -> None:
    """A server that was killed counts as not running; its leftovers do not keep a new one from starting."""
    assert deploy("start", "--no-supervisor").returncode == 0
    crashed, family = deploy.state(), deploy.family()
    os.kill(crashed.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not gone(family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert deploy("status").returncode == 3
    assert deploy("start").returncode == 0
    assert not Path(crashed.temp_dir).exists()


def test_two_servers_on_one_host(up: Deploy, deploy: Deploy) -> None:
    """Two servers of one checkout do not get into each other's way."""
    assert deploy("start", "--workers", "2").returncode == 0
    assert len(deploy.family()) == 3
    assert deploy("stop").returncode == 0
    assert up("status").returncode == 0
    assert len(up.family()) == 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_foreground(deploy: Deploy, signum: signal.Signals) -> None:
    """In the foreground the command stays, and a signal to it stops the whole server."""
    process = subprocess.Popen(
        deploy.command("start", "--foreground"), cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert any(line.startswith("Try it:") for line in process.stdout), "it never became ready"
        family = deploy.family()
        assert process.poll() is None
        process.send_signal(signum)
        assert process.wait(30) == 0
        assert gone(family)
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.parametrize(
    ("handler", "cause"),
    [
        pytest.param(BROKEN, "ModuleNotFoundError: No module named 'a_module_that_is_not_there'", id="import"),
        pytest.param(RAISES, "ValueError: the weights are of another model", id="initialize"),
    ],
)
def test_broken_archive(tmp_path: Path, handler: str, cause: str) -> None:
    """An archive that cannot be loaded makes `start` fail with the true cause, and nothing stays behind."""
    pack("broken", handler, tmp_path / "model_store")
    deploy = Deploy(tmp_path, tmp_path / "model_store")
    result = deploy("start")
    assert result.returncode == 1
    first, *details = result.stderr.splitlines()
    assert first == f"error: broken could not be loaded: {cause}"
    assert any("broken_handler.py" in line for line in details)
    assert deploy("status").returncode == 3
    assert deploy_server.load_state(deploy.run_dir) is None


def test_port_taken(deploy: Deploy) -> None:
    """A taken port, any of the five, is named with its holder and the way out, and nothing is started."""
    port = free_ports("127.0.0.1")
    with socket.create_server(("127.0.0.1", port + 1)):
        line = the_error(deploy("start", "--port", str(port)))
    assert f"port {port + 1} on 127.0.0.1 is taken by" in line
    assert f"(pid {os.getpid()})" in line
    assert f"PORT={port + 100}" in line


def test_no_archive(tmp_path: Path, store: Path) -> None:
    """An empty store, an unknown model and a file that is no archive each give one line with the way out."""
    empty = tmp_path / "empty"
    line = the_error(Deploy(tmp_path, empty)("start"))
    assert line == f"error: {empty} has no archive; build one first: make archive"
    line = the_error(Deploy(tmp_path, store)("start", "--model", "other"))
    assert "no archive named other (it has: echo)" in line
    empty.mkdir()
    (empty / "text.mar").write_text("this is no archive")
    assert "text.mar cannot be read" in the_error(Deploy(tmp_path, empty)("start"))


def test_no_java(deploy: Deploy, tmp_path: Path) -> None:
    """Without Java, or with one that is too old, the line says what to install."""
    line = the_error(deploy("start", PATH=str(tmp_path), JAVA_HOME=""))
    assert "needs Java 17 or newer and there is none" in line
    assert "apt-get install openjdk-17-jre-headless" in line
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    old.chmod(0o755)
    assert f"{old} is Java 8, TorchServe needs 17 or newer" in the_error(
        deploy("start", JAVA_HOME=str(tmp_path))
    )


def test_no_space(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is noticed before the start, with the numbers and the way out."""
    usage = shutil.disk_usage("/")._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DeployError, match=r"has 1 MB free and the server needs 10\d MB there; .*TMPDIR"):
        check_temporary_space(list(store.glob("*.mar")))


def test_ports_of_the_configuration() -> None:
    """Without a port the configuration's own hold, with one all five follow it; all on loopback."""
    own = load_config(PROJECT / "config.properties")
    assert own.ports == tuple(range(8080, 8080 + PORTS))
    moved = load_config(PROJECT / "config.properties", 9300)
    assert moved.ports == tuple(range(9300, 9300 + PORTS))
    assert moved.management_url == "http://127.0.0.1:9301"
    assert "inference_address=http://127.0.0.1:9300\n" in moved.text
    assert "808" not in moved.text


def test_cause_of_a_multiline_exception() -> None:
    """The line that names the exception is the cause, not the last line of its message."""
    lines = [
        "s_name_part0=/tmp/.ts.sock, s_name_part1=9000, pid=1",
        "Traceback (most recent call last):",
        '  File "/tmp/models/1/handler.py", line 3, in initialize',
        "    model.load_state_dict(weights)",
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "RuntimeError: Error(s) in loading state_dict for Net:",
        "\tMissing key(s) in state_dict: proj.weight",
        "s_name_part0=/tmp/.ts.sock, s_name_part1=9000, pid=2",
    ]
    cause, details = true_cause(lines)
    assert cause == "RuntimeError: Error(s) in loading state_dict for Net:"
    assert details[-1] == "\tMissing key(s) in state_dict: proj.weight"
