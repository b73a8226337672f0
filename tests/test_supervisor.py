"""Promise: a TorchServe that dies or hangs comes back, and nothing ends the watching but a stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deploy import server as deploy_server
from deploy.processes import runs
from deploy.state import load_supervisor, state_file, supervisor_file
from deploy.supervisor import BackOff, Policy, Supervisor
from tests.conftest import PROJECT
from tests.helpers_supervisor import (
    DEADLINE_SECONDS,
    POLICY,
    answers,
    eventually,
    renewed,
)
from tests.test_server_lifecycle import Deploy, gone

pytestmark = pytest.mark.server

pytest_plugins = ("tests.fixtures_supervisor",)


def test_the_jvm_killed(supervised: Deploy) -> None:
    """After kill -9 of the JVM the same addresses serve again, with as many workers, and no leftovers."""
    old, family = supervised.state(), supervised.family()
    os.kill(old.process.pid, signal.SIGKILL)
    eventually(lambda: renewed(supervised, old), "no new server")
    new = supervised.state()
    assert new.inference_url == old.inference_url
    assert answers(supervised)
    assert gone(family)
    assert not Path(old.temp_dir).exists()


def test_the_jvm_stopped(supervised: Deploy) -> None:
    """A JVM that a signal stopped is told to go on."""
    before = supervised.state()
    os.kill(before.process.pid, signal.SIGSTOP)
    eventually(lambda: answers(supervised), "it stays stopped")
    assert supervised.state() == before


@pytest.mark.slow
def test_a_jvm_that_hangs(up: Deploy, settings: deploy_server.Settings) -> None:
    """A JVM whose management API is silent, and that does nothing, is replaced."""
    old = up.state()
    supervisor = Supervisor(settings, POLICY)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are taken, and that is all
        deaf = replace(old, management_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        deadline = time.monotonic() + DEADLINE_SECONDS
        while up.state() == old and time.monotonic() < deadline:
            supervisor.look(deaf)
            time.sleep(POLICY.poll)
    assert renewed(up, old)
    assert answers(up)
    assert not old.process.alive()


@pytest.mark.parametrize(
    "content", ["", "{", '{"process": {"pid": "x", "session": 1, "created": 0}, "models": ["a"]}']
)
def test_a_damaged_state_is_mended(supervised: Deploy, content: str) -> None:
    """The file is written anew from what the supervisor knows, and the server stays as it is."""
    before, path = supervised.state(), state_file(supervised.run_dir)
    eventually(lambda: not path.with_suffix(".partial").exists(), "it is being written")
    time.sleep(3 * POLICY.poll)
    path.write_text(content)
    eventually(lambda: path.read_text() != content, "it is as it was")
    assert supervised.state() == before


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("x"), psutil.AccessDenied(1), psutil.NoSuchProcess(1), OSError(28, "full")],
)
def test_nothing_ends_the_watching(
    settings: deploy_server.Settings,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever a look raises is logged, and the next look follows."""
    supervisor, looks = Supervisor(settings, replace(POLICY, poll=0.01)), iter(range(3))

    def look(_: deploy_server.State) -> None:
        raise error

    monkeypatch.setattr(supervisor, "look", look)
    supervisor.run(lambda: next(looks, None) is None)
    assert sum(type(error).__name__ in (record.exc_text or "") for record in caplog.records) == 3


def test_start_brings_a_supervisor_and_stop_ends_it(tmp_path: Path, up: Deploy) -> None:
    """`start` leaves one running, `status` names it, and `stop` ends it before the server."""
    deploy = Deploy(tmp_path, up.store)
    try:
        assert deploy("start").returncode == 0
        keeper = load_supervisor(deploy.run_dir)
        assert keeper is not None
        assert f"supervisor pid {keeper.pid}" in deploy("status").stdout
        old = deploy.state()
        os.kill(old.process.pid, signal.SIGKILL)
        eventually(lambda: renewed(deploy, old), "no new server")
        assert "the JVM is gone" in (tmp_path / "logs" / "supervisor.log").read_text()
        supervisor_file(deploy.run_dir).write_text("{")
        eventually(lambda: load_supervisor(deploy.run_dir) == keeper, "nobody can find the supervisor any more")
        family = deploy.family()
        assert deploy("stop").stdout == "Stopped.\n"
        assert not keeper.alive()
        time.sleep(3)  # longer than between two looks
        assert gone(family)
        assert deploy("status").returncode == 3
    finally:
        deploy_server.stop(deploy.run_dir)


@pytest.mark.slow
def test_foreground_repairs_too(tmp_path: Path, up: Deploy) -> None:
    """With FOREGROUND=1 the command itself brings the server back, and a stop from elsewhere ends both."""
    deploy = Deploy(tmp_path, up.store)
    process = subprocess.Popen(
        deploy.command("start", "--foreground"), cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert any(line.startswith("Try it:") for line in process.stdout), "it never became ready"
        # Someone must read on, or the server blocks on a full pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        old = deploy.state()
        # As an ancestor it may close the server's port for a stop also where Yama restricts that.
        assert psutil.Process(old.process.pid).ppid() == process.pid
        os.kill(old.process.pid, signal.SIGKILL)
        eventually(lambda: renewed(deploy, old), "no new server")
        assert psutil.Process(deploy.state().process.pid).ppid() == process.pid
        mine = psutil.Process(process.pid)
        eventually(lambda: all(runs(child) for child in mine.children()), "zombies pile up")
        family = deploy.family()
        assert deploy("stop").stdout == "Stopped.\n"
        assert process.wait(60) == 0
        assert gone(family)
    finally:
        process.kill()
        deploy_server.stop(deploy.run_dir)


def test_back_off() -> None:
    """What does not help is tried again later and later, up to a limit; after a healthy while from anew."""
    back_off, now, waits = BackOff(Policy(first_retry=5, last_retry=40, healthy=100)), 1000.0, []
    for _ in range(6):
        waited = 0
        while not back_off.due(now):
            now, waited = now + 1, waited + 1
        waits.append(waited)
        back_off.tried(now)
    assert waits == [0, 5, 10, 20, 40, 40]
    assert back_off.due(now + 40 + 101)
    back_off.tried(now + 141)
    assert not back_off.due(now + 145)
    assert back_off.due(now + 146)
