"""Promise: what dies comes back: workers that TorchServe has given up on, and TorchServe itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from deploy import server as deploy_server
from deploy.management import get_models
from deploy.probe import predicts
from deploy.state import load_supervisor
from deploy.supervisor import BackOff, Policy, Supervisor
from tests.conftest import PROJECT, pack
from tests.test_server_lifecycle import Deploy, gone

# It dies like a killed one while a file is there, and answers nothing while another one is.
FRAGILE = """
import os, signal, time
from pathlib import Path

HOME = Path({home!r})

class Fragile:
    def initialize(self, context):
        if (HOME / "die").exists():
            os.kill(os.getpid(), signal.SIGKILL)
    def handle(self, data, context):
        while (HOME / "hang").exists():
            time.sleep(0.1)
        return [str(os.getpid()) for _ in data]
"""
# TorchServe gives up after two seconds instead of five minutes.
CONFIG = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 1\nmaxRetryTimeoutInSec: 2\nresponseTimeout: 100\n"
IMPATIENT = Policy(
    poll=0.2,
    dead_worker=4,
    silence=5,
    probe=1,
    probe_deadline=3,
    first_retry=1,
    last_retry=2,
    failed_probes=2,
)
DEADLINE_SECONDS = 120


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("supervised")


@pytest.fixture(scope="module")
def up(home: Path) -> Iterator[Deploy]:
    """A server without a supervisor; every test leaves it well."""
    pack("fragile", FRAGILE.format(home=str(home)), home / "store", CONFIG)
    up = Deploy(home, home / "store")
    started = up("start", "--no-supervisor")
    assert started.returncode == 0, started.stderr
    yield up
    deploy_server.stop(up.run_dir)


@pytest.fixture
def supervised(up: Deploy) -> Iterator[Deploy]:
    """The same, watched by a supervisor that has little patience."""
    settings = deploy_server.Settings(
        model_store=up.store, run_dir=up.run_dir, log_dir=up.home / "logs", timeout_seconds=60
    )
    end = threading.Event()
    thread = threading.Thread(target=Supervisor(settings, IMPATIENT).run, args=(end.is_set,))
    thread.start()
    yield up
    end.set()
    thread.join(DEADLINE_SECONDS)
    assert not thread.is_alive()


def eventually(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def workers(up: Deploy) -> list[psutil.Process]:
    (model,) = get_models(up.state().management_url, ["fragile"])
    found = (worker.process() for worker in model.workers)
    return [process for process in found if process and process.status() != psutil.STATUS_ZOMBIE]


def renewed(up: Deploy, old: deploy_server.State) -> bool:
    """There is another server than before, and it is ready; for a moment there is none."""
    state = deploy_server.load_state(up.run_dir)
    return state is not None and state.process != old.process and both_ready(up)


def both_ready(up: Deploy) -> bool:
    try:
        models = get_models(up.state().management_url, ["fragile"])
    except (requests.RequestException, AssertionError):
        return False
    return bool(models) and models[0].ready(2) and len(workers(up)) == 2


def answers(up: Deploy) -> bool:
    try:
        return requests.post(up.state().predict_url(), data=b"clip", timeout=5).ok
    except requests.RequestException:
        return False


def test_workers_that_torchserve_gave_up_on(up: Deploy, home: Path) -> None:
    """Without a supervisor they stay dead when the cause is gone; with one they come back."""
    (home / "die").touch()
    for process in workers(up):
        process.kill()
    log = up.home / "logs" / "ts_log.log"
    gave_up = re.compile(r"W-(9\d\d\d)-.* Auto recovery failed again")
    eventually(lambda: len(set(gave_up.findall(log.read_text()))) == 2, "TorchServe did not give up")
    (home / "die").unlink()
    time.sleep(5)
    assert up.state().process.command_lines() == [], "TorchServe tries again: this test shows nothing"
    supervisor = Supervisor(
        deploy_server.Settings(run_dir=up.run_dir, model_store=up.store, log_dir=up.home / "logs"), IMPATIENT
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    supervisor.run(lambda: both_ready(up) or time.monotonic() > deadline)
    assert both_ready(up)
    assert answers(up)


@pytest.mark.slow
def test_a_model_that_stopped_answering(supervised: Deploy, home: Path) -> None:
    """READY workers that answer nothing are found by a real prediction, and replaced."""
    before = {process.pid for process in workers(supervised)}
    (home / "hang").touch()
    try:
        eventually(lambda: not before & {process.pid for process in workers(supervised)}, "the workers stayed")
    finally:
        (home / "hang").unlink()
    eventually(lambda: both_ready(supervised) and answers(supervised), "it did not come back")


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


@pytest.mark.slow
def test_a_jvm_that_hangs(supervised: Deploy) -> None:
    """A JVM that is there and answers nothing is replaced."""
    old = supervised.state()
    os.kill(old.process.pid, signal.SIGSTOP)
    eventually(lambda: renewed(supervised, old), "no new server")
    assert answers(supervised)
    assert not psutil.pid_exists(old.process.pid) or gone([psutil.Process(old.process.pid)])


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
        os.kill(old.process.pid, signal.SIGKILL)
        eventually(lambda: renewed(deploy, old), "no new server")
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


def test_the_probe_knows_busy_from_broken(up: Deploy, home: Path) -> None:
    """No answer in time is a fault where nothing is answered, and none while other requests are."""
    state = up.state()
    assert predicts(state, "fragile", 30) is None
    (home / "hang").touch()
    try:
        assert "no answer within 1 s" in str(predicts(state, "fragile", deadline_seconds=1))
    finally:
        (home / "hang").unlink()
    assert predicts(state, "no_such_model", 30) is None  # 404: an answer
