"""Promise: workers that die, hang or answer only errors come back; those that work are let be."""

from __future__ import annotations

import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from deploy import server as deploy_server
from deploy.supervisor import Supervisor
from tests.helpers_fragile import Faults
from tests.helpers_supervisor import (
    DEADLINE_SECONDS,
    POLICY,
    answers,
    both_ready,
    eventually,
    remedies,
    replaced,
    workers,
)
from tests.test_server_lifecycle import Deploy

pytestmark = pytest.mark.server

pytest_plugins = ("tests.fixtures_supervisor",)


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
