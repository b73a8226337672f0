"""A real gateway: ``python -m actionrec_gateway`` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from deploy.config import load_config
from tests.conftest import DEADLINE_SECONDS, PROJECT

MAX_BODY_BYTES = load_config(PROJECT / "config.properties").max_request_bytes
_ENVIRONMENT = ("GATEWAY_", "OTEL_", "AIP_", "DATABASE_URL", "FETCH")
"""What a test must not get from whoever runs it."""


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that listens, and what it writes."""

    url: str
    home: Path
    process: subprocess.Popen[str]

    def lines(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in (self.home / "gateway.log").read_text().splitlines()]

    def line_of(self, request_id: str) -> dict[str, Any]:
        """The one line of a request, which is written after its reply was sent."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (found := [line for line in self.lines() if line.get("request_id") == request_id]):
            assert time.monotonic() < deadline, f"{request_id} has no line"
            time.sleep(0.02)
        (line,) = found
        return line

    def post(self, path: str, data: Any = b"", **more: Any) -> requests.Response:  # noqa: ANN401
        return requests.post(self.url + path, data=data, timeout=DEADLINE_SECONDS, **more)

    def get(self, path: str, **more: Any) -> requests.Response:  # noqa: ANN401
        return requests.get(self.url + path, timeout=DEADLINE_SECONDS, **more)


@dataclass(frozen=True)
class Guarded:
    """One that asks for tokens, and some of these."""

    gateway: RunningGateway
    ada: dict[str, str]
    """Headers of an administrator..."""
    bob: dict[str, str]
    """... and of somebody else."""


@contextmanager
def running(
    home: Path, engine: str, management: str, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningGateway]:
    """Start a gateway on a free port; it is stopped at the end.

    Args:
        home: folder for its files.
        engine: address of the engine's predictions.
        management: address of its management.
        options: further ones of the command line.
        environment: further variables.
    """
    home.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_ENVIRONMENT)}
    command = [sys.executable, "-m", "actionrec_gateway", "--port", "0", "--engine", engine]
    command += ["--management", management, "--run-dir", str(home / "run")]
    command += ["--log-file", str(home / "gateway.log"), *options]
    with (home / "stderr").open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**inherited, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (home / "stderr").read_text()
        yield RunningGateway(json.loads(line)["url"], home, process)
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE_SECONDS)
        finally:
            process.kill()
            if process.stdout:
                process.stdout.close()
