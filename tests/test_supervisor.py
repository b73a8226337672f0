"""Promise: what dies, hangs or answers only errors comes back, workers and TorchServe; what works is let be."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests

from deploy import server as deploy_server
from deploy.management import get_models
from deploy.processes import runs
from deploy.state import load_supervisor, state_file, supervisor_file
from deploy.supervisor import BackOff, Policy, Supervisor
from tests.conftest import PROJECT, pack
from tests.helpers_fragile import Faults
from tests.test_server_lifecycle import Deploy, gone

pytestmark = pytest.mark.server

# TorchServe gives up after two seconds instead of five minutes.
CONFIG = """
minWorkers: 2
maxWorkers: 2
batchSize: 1
jobQueueSize: 4
maxRetryTimeoutInSec: 2
responseTimeout: 100
"""
POLICY = Policy(poll=0.5, first_retry=1.0, last_retry=2.0)
DEADLINE_SECONDS = 300
REMEDIES = re.compile("killed|are new|anew|go on")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("supervised")


@pytest.fixture(scope="module")
def faults(home: Path) -> Faults:
    return Faults(home)


@pytest.fixture(scope="module")
def up(home: Path, faults: Faults) -> Iterator[Deploy]:
    """A server without a supervisor; every test leaves it well."""
    pack("fragile", faults.source(), home / "store", CONFIG)
    up = Deploy(home, home / "store")
    started = up("start", "--no-supervisor")
    assert started.returncode == 0, started.stderr
    yield up
    deploy_server.stop(up.run_dir)


@pytest.fixture
def settings(up: Deploy) -> deploy_server.Settings:
    return deploy_server.Settings(
        model_store=up.store, run_dir=up.run_dir, log_dir=up.home / "logs", timeout_seconds=DEADLINE_SECONDS
    )


@pytest.fixture
def supervised(up: Deploy, settings: deploy_server.Settings) -> Iterator[Deploy]:
    """The same, watched."""
    end = threading.Event()
    thread = threading.Thread(target=Supervisor(settings, POLICY).run, args=(end.is_set,))
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


def replaced(up: Deploy, old: list[psutil.Process]) -> bool:
    """All workers are others than these, and answer."""
    return not set(old) & set(workers(up)) and both_ready(up) and answers(up)


def remedies(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a supervisor in this process did."""
    return [record.getMessage() for record in caplog.records if REMEDIES.search(record.getMessage())]


def test_workers_that_torchserve_gave_up_on(
    up: Deploy, settings: deploy_server.Settings, faults: Faults
) -> None:
    """Without a supervisor they stay dead when the cause is gone; with one they come back."""
    log = up.home / "logs" / "ts_log.log"
    gave_up = re.compile(r"W-(9\d\d\d)-.* Auto recovery failed again")
    with faults.fault("die"):
        for process in workers(up):
            process.kill()
        eventually(lambda: len(set(gave_up.findall(log.read_text()))) == 2, "TorchServe did not give up")
    time.sleep(5)
    assert up.state().process.children() == [], "TorchServe tries again: this test shows nothing"
    deadline = time.monotonic() + DEADLINE_SECONDS
    Supervisor(settings, POLICY).run(lambda: both_ready(up) or time.monotonic() > deadline)
    assert both_ready(up)
    assert answers(up)


def test_stopped_workers(supervised: Deploy) -> None:
    """Workers that a signal stopped are told to go on: they are the same as before, and nothing is lost."""
    before = workers(supervised)
    with ThreadPoolExecutor(2) as pool:
        for process in before:
            process.suspend()
        asked = [pool.submit(answers, supervised) for _ in before]
        assert all(answer.result() for answer in asked)
    assert workers(supervised) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "value"),
    [
        pytest.param("hang", 1, id="no answer"),
        pytest.param("errors", 503, id="errors"),
        pytest.param("errors", 422, id="the clip is refused"),
        pytest.param("says", '{"predictions": []}', id="nothing predicted"),
        pytest.param("says", '{"predictions": [{"label": "walking", "score": NaN}]}', id="no number"),
    ],
)
def test_workers_that_do_not_predict(
    supervised: Deploy, faults: Faults, fault: str, value: float | str
) -> None:
    """READY workers that answer nothing, errors alone or nonsense are replaced, though nobody asks them."""
    before = workers(supervised)
    with faults.fault(fault, value, [process.pid for process in before]):
        eventually(lambda: not set(before) & set(workers(supervised)), "the workers stayed")
    eventually(lambda: replaced(supervised, before), "it did not come back")


@pytest.mark.slow
def test_errors_to_others_are_no_progress(supervised: Deploy, faults: Faults) -> None:
    """Workers that answer errors to many clients all the time are replaced."""
    before = workers(supervised)
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers(supervised)

    with ThreadPoolExecutor(6) as pool, faults.fault("errors", 503, [process.pid for process in before]):
        for _ in range(6):
            pool.submit(ask)
        try:
            eventually(lambda: not set(before) & set(workers(supervised)), "the workers stayed")
        finally:
            over.set()
    eventually(lambda: replaced(supervised, before), "it did not come back")


@pytest.mark.slow
def test_a_full_queue_before_hanging_workers(supervised: Deploy, faults: Faults) -> None:
    """A full queue is no excuse where the workers do nothing."""
    before = workers(supervised)
    with ThreadPoolExecutor(12) as pool, faults.fault("hang", pids=[process.pid for process in before]):
        for _ in range(12):
            pool.submit(answers, supervised)
        eventually(lambda: not set(before) & set(workers(supervised)), "the workers stayed")
    eventually(lambda: replaced(supervised, before), "it did not come back")


@pytest.mark.slow
def test_work_is_no_fault(supervised: Deploy, faults: Faults, caplog: pytest.LogCaptureFixture) -> None:
    """Workers that compute for long before a full queue, and such that load for long, are let be."""
    caplog.set_level(logging.INFO, "deploy")
    before = workers(supervised)
    with faults.fault("work", 12), ThreadPoolExecutor(8) as pool:
        statuses = [pool.submit(requests.post, supervised.state().predict_url(), b"clip") for _ in range(8)]
        assert {answer.result().status_code for answer in statuses} == {200, 503}
    assert workers(supervised) == before
    with faults.fault("load", 12):
        for process in before:
            process.kill()
        eventually(lambda: replaced(supervised, before), "it did not come back")
    assert remedies(caplog) == []


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
