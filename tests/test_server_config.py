"""Promise: the server's configuration leaves nothing open that need not be, and its numbers fit each other."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
import requests

from deploy.config import load_config
from deploy.server import DRAIN_SECONDS
from export.archive import SERVING
from tests.conftest import PROJECT, RunningServer

VALUES = dict(
    line.split("=", 1)
    for line in (PROJECT / "config.properties").read_text(encoding="utf-8").splitlines()
    if "=" in line and not line.startswith("#")
)


@pytest.mark.parametrize("name", ["inference_address", "management_address", "metrics_address"])
def test_loopback_only(name: str) -> None:
    """No address of the server can be reached from another host."""
    assert ipaddress.ip_address(urlsplit(VALUES[name]).hostname or "").is_loopback


def test_nothing_is_loaded_from_elsewhere(motion_server: RunningServer) -> None:
    """The running server registers neither a model nor a workflow, from an address or from a file."""
    management = motion_server.management_url
    for url in ("http://127.0.0.1:1/x.mar", "file:///tmp/x.mar", "../x.mar", "motion.mar"):
        for what in ("models", "workflows"):
            reply = requests.post(f"{management}/{what}", params={"url": url}, timeout=60)
            assert not reply.ok, (what, url)
    assert not requests.delete(f"{management}/models/motion", timeout=60).ok
    models = requests.get(f"{management}/models", timeout=60).json()["models"]
    assert [model["modelName"] for model in models] == ["motion"]


def test_switches() -> None:
    """What lets others in or runs their code is off."""
    off = ("enable_model_api", "install_py_dep_per_model", "enable_envvars_config")
    assert {VALUES[name] for name in off} == {"false"}
    assert VALUES["metrics_mode"] == "prometheus"


def test_times_fit() -> None:
    """A batch has the same time in the archive and the server, and a stop waits for half of it."""
    config = load_config(PROJECT / "config.properties")
    assert config.response_seconds == SERVING["responseTimeout"]
    assert config.response_seconds / 2 <= DRAIN_SECONDS <= config.response_seconds
