"""A server of fragile workers under a supervisor: how it is, and how it is doing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import psutil
import pytest
import requests

from deploy import server as deploy_server
from deploy.management import get_models
from deploy.processes import runs
from deploy.supervisor import Policy
from tests.test_server_lifecycle import Deploy

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


def eventually(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def workers(up: Deploy) -> list[psutil.Process]:
    (model,) = get_models(up.state().management_url, ["fragile"])
    found = (worker.process() for worker in model.workers)
    return [process for process in found if process and runs(process)]


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
