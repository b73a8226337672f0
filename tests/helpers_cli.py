"""The command line as a user calls it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import PROJECT, RunningServer

DEADLINE_SECONDS = 300


def actionrec(
    *arguments: str | Path,
    server: RunningServer | None = None,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a terminal of 100 columns; whatever its exit code, it comes back.

    Args:
        arguments: of the command.
        server: whose address it has; None: one where nothing is.
        cwd: where it runs.
        variables: of its environment, beside this process's.
    """
    return subprocess.run(
        command(*arguments),
        cwd=cwd or PROJECT,
        env={**environment(server), **(variables or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def start(*arguments: str | Path, server: RunningServer) -> subprocess.Popen[str]:
    """The same, running."""
    return subprocess.Popen(
        command(*arguments),
        cwd=PROJECT,
        env=environment(server),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(*arguments: str | Path) -> list[str]:
    """What is run."""
    return [sys.executable, "-m", "actionrec_client", *map(str, arguments)]


def environment(server: RunningServer | None) -> dict[str, str]:
    """With the server's address; without one, an address where nothing is."""
    url = server.inference_url if server else "http://127.0.0.1:1"
    return {**os.environ, "COLUMNS": "100", "ACTIONREC_URL": url, "PYTHONPATH": str(PROJECT)}
