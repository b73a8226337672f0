"""Engines beside TorchServe, each as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.conftest import DEADLINE_SECONDS, PROJECT


@contextmanager
def running(home: Path, module: str, url: str, *arguments: str) -> Iterator[str]:
    """Start an engine and wait until its models predict; yields its address. It is stopped at the end.

    Args:
        home: folder for what it writes.
        module: as ``ray_serve``.
        url: where it will answer.
        arguments: of its command line.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "GATEWAY_"))
    }
    command = [sys.executable, "-m", f"actionrec_engines.{module}", *arguments]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**environment, "XDG_CACHE_HOME": str(home / "cache")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(process, url, home)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE_SECONDS)
        finally:
            process.kill()


def _wait(process: subprocess.Popen[bytes], url: str, home: Path) -> None:
    clip = (PROJECT / "actionrec_gateway" / "probe.mp4").read_bytes()
    deadline = time.monotonic() + 2 * DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if requests.put(f"{url}/predictions/motion", clip, timeout=DEADLINE_SECONDS).status_code == 200:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.2)
    raise AssertionError((home / "log").read_text())
