"""Promise: every panel shows data of a real server, and real faults raise the alerts that are named for them.

A real Prometheus scrapes a real server and its gateway, while requests come, good and bad.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from deploy.observability import panels
from deploy.observability.__main__ import HERE, command, configuration
from motion.clips import random_clip
from testing.media import encode
from tests.conftest import DEADLINE_SECONDS, RunningServer, StartServer
from tests.helpers_gateway import RunningGateway, running
from tests.helpers_supervisor import eventually
from tests.hostile_files import frames

pytestmark = [pytest.mark.server, pytest.mark.long]

CLIP = random_clip(11, "moving left").data
SHORT = encode(frames(1))
"""Shorter than the model's window, which the reply warns of."""
RATE_WINDOW = "30s"
"""What Grafana puts in place of its own variable."""


@dataclass(frozen=True)
class Watched:
    """A server, its gateway, and a Prometheus that scrapes both every three seconds."""

    server: RunningServer
    gateway: RunningGateway
    prometheus: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        reply = requests.get(f"{self.prometheus}/api/v1/query", params={"query": expression}, timeout=30).json()
        assert reply["status"] == "success", (expression, reply)
        found: list[dict[str, Any]] = reply["data"]["result"]
        return found

    def alerts(self) -> set[str]:
        """Names of the alerts that fire."""
        found = requests.get(f"{self.prometheus}/api/v1/alerts", timeout=30).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def send(self) -> requests.Response:
        return self.gateway.post("/predictions/motion", CLIP)


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, server: StartServer, motion_archive: Path
) -> Iterator[Watched]:
    """Alerts fire at once here, without the minutes for which they have to hold: those are promtool's to test.

    What waits is looked at for ten seconds for the same reason.
    """
    home = tmp_path_factory.mktemp("watched")
    up = server(motion_archive)
    candidate = home / "canary.json"
    candidate.write_text(json.dumps({"motion": {"to": "motion", "share": 0.5}}))
    with running(home / "gateway", up.inference_url, up.management_url, "--canary", str(candidate)) as gateway:
        text = (HERE / "rules" / "actionrec.yml").read_text()
        assert "actionrec_requests_waiting[5m]" in text
        rules = yaml.safe_load(
            text.replace("actionrec_requests_waiting[5m]", "actionrec_requests_waiting[10s]")
        )
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule.pop("for", None)
        (home / "rules.yml").write_text(yaml.safe_dump(rules))
        config = configuration(gateway.url, up.metrics_url, scrape="3s")
        config["rule_files"] = [str(home / "rules.yml")]
        (home / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with (home / "log").open("w") as log:
            process = subprocess.Popen(command(home / "prometheus.yml", home / "data", port), stderr=log)
        try:
            found = Watched(up, gateway, f"http://127.0.0.1:{port}")
            eventually(lambda: ready(found), (home / "log").read_text() or "Prometheus does not start")
            yield found
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


def ready(watched: Watched) -> bool:
    try:
        return requests.get(f"{watched.prometheus}/-/ready", timeout=5).ok
    except requests.RequestException:
        return False


def test_every_panel_shows_data(watched: Watched) -> None:
    """With requests, bad ones and a job behind it, every query of every panel gives a finite number.

    Those of GPUs are left out by name (`test_observability` says which may be called so).
    """
    seen: set[str] = set()
    expected = {
        f"{board.name}: {panel.title}: {query}"
        for board in panels.BOARDS
        for panel in board.panels
        if not panel.title.startswith(panels.GPU)
        for query, _ in panel.queries
    }
    assert watched.gateway.post("/jobs?model=motion", CLIP).status_code in (200, 201, 202)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while seen != expected:
        assert time.monotonic() < deadline, f"no data: {sorted(expected - seen)}"
        assert watched.send().status_code == 200
        assert watched.gateway.post("/predictions/motion", SHORT).json()["warnings"]
        assert watched.gateway.post("/predictions/motion", b"no video").status_code == 415
        for board in panels.BOARDS:
            for panel in board.panels:
                for query, _ in panel.queries:
                    name = f"{board.name}: {panel.title}: {query}"
                    if name in expected - seen and _has_data(watched, query):
                        seen.add(name)
    assert watched.alerts() == set(), "alerts without a fault"


def _has_data(watched: Watched, query: str) -> bool:
    found = watched.query(query.replace("$__rate_interval", RATE_WINDOW))
    return any(float(series["value"][1]) == float(series["value"][1]) for series in found)  # NaN is no data


def test_children_that_die(watched: Watched) -> None:
    """Decoding children that are killed again and again raise `ChildrenReplacedOften`, and it goes away."""
    worker = _worker(watched)

    def fires() -> bool:
        for child in worker.children(recursive=True):
            with suppress(psutil.Error):  # it has gone meanwhile
                if not child.children():  # not the one that starts them
                    child.kill()
        watched.send()
        return "ChildrenReplacedOften" in watched.alerts()

    eventually(fires, "nobody is told")
    eventually(lambda: watched.send().status_code == 200, "it does not come back")


def test_requests_that_wait(watched: Watched) -> None:
    """More requests than the worker takes raise `RequestsWait`; all of them are answered."""
    replies: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            reply = watched.send()
            replies.append("" if reply.ok else reply.text)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: "RequestsWait" in watched.alerts(), "nobody is told")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(replies) == {""}


def test_a_model_without_workers(watched: Watched) -> None:
    """A model whose workers are gone raises `ModelWithoutWorkers`, its 503s burn the budget, and both end."""
    _scale(watched, 0)
    try:

        def fires() -> bool:
            assert watched.send().status_code == 503
            return {"ModelWithoutWorkers", "ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly"} <= watched.alerts()

        eventually(fires, "nobody is told")
    finally:
        _scale(watched, 1)
    eventually(lambda: "ModelWithoutWorkers" not in watched.alerts(), "it still fires")
    assert watched.send().status_code == 200


def test_an_engine_that_is_silent(watched: Watched) -> None:
    """An engine that is stopped raises `EngineSilent`, while the gateway still answers."""
    process = watched.server.state.process.pid
    os.kill(process, signal.SIGSTOP)
    try:
        eventually(lambda: "EngineSilent" in watched.alerts(), "nobody is told")
        assert watched.gateway.get("/health").ok
    finally:
        os.kill(process, signal.SIGCONT)
    eventually(lambda: "EngineSilent" not in watched.alerts(), "it still fires")


def _worker(watched: Watched) -> psutil.Process:
    (entry,) = requests.get(f"{watched.server.management_url}/models/motion", timeout=30).json()
    return psutil.Process(entry["workers"][0]["pid"])


def _scale(watched: Watched, workers: int) -> None:
    reply = requests.put(
        f"{watched.server.management_url}/models/motion",
        params={"min_worker": str(workers), "max_worker": str(workers), "synchronous": "true"},
        timeout=DEADLINE_SECONDS,
    )
    assert reply.ok, json.dumps(reply.json())
