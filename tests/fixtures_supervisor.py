"""A real server of workers that break on demand, with and without a supervisor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import server as deploy_server
from deploy.supervisor import Supervisor
from tests.conftest import pack
from tests.helpers_fragile import Faults
from tests.helpers_supervisor import (
    CONFIG,
    DEADLINE_SECONDS,
    POLICY,
)
from tests.test_server_lifecycle import Deploy


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
